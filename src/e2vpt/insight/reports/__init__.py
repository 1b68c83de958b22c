"""The HTML report of a run: what it got right and wrong, how sure it was, what was trained and what was kept.

May import: every package above insight, and insight.documents.
Never: insight.explanations, benchmarks, cli.
"""
