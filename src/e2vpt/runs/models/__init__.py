"""A backbone adapted to a task, from an adapter or a run to a model that predicts, embeds and is evaluated.

May import: every package above runs, and runs.folders.
Never: what trains, search, benchmarks, cli.
"""
