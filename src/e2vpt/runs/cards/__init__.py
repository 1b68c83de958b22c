"""Model cards, and adapters to the Hugging Face Hub and from there.

May import: every package above runs, and runs.folders and runs.progress.
Never: what trains, search, benchmarks, cli.
"""
