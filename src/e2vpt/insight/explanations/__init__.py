"""Why a model says what it says: attention to prompts, rollout, gradients, and embedding plots.

May import: every package above insight, and insight.documents.
Never: insight.reports, benchmarks, cli.
"""
