"""One training, the recipe of several, the paper's protocol, the estimator; and the rooms of what they share.

May import: every package above it, which ends with training.
Never: search, benchmarks, cli.
"""
