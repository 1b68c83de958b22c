"""What was learned, to look at: explanations of pictures, embedding plots, reports.

May import: every package above it, which ends with export.
Never: benchmarks, cli.
"""
