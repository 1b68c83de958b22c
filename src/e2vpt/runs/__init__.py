"""A run folder; one run, the recipe of several trainings, the paper's protocol, prediction, the estimator.

May import: every package above it, which ends with training.
Never: search, benchmarks, cli.
"""
