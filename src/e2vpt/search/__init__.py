"""One space, two engines: Optuna in this process, Ray Tune on a cluster.

May import: every package above it, which ends with runs.
Never: benchmarks, cli.
"""
