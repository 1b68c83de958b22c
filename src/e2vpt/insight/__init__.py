"""What was learned, to look at: the HTML report, explanations of predictions, embedding plots.

May import: every package above it, which ends with export.
Never: benchmarks, cli.
"""

from e2vpt.insight.reports.writing import write_html_report as write_html_report
