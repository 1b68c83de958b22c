"""Many adapters on one frozen backbone, a different task for every row of a batch.

May import: every package above it, which ends with runs.
Never: serving, export, benchmarks, cli.
"""
