"""What a run leaves behind and is recognised by: names, settings, images, logs, answers, and who works there.

May import: every package above runs, and nothing else of runs.
Never: other packages of runs, search, benchmarks, cli.
"""
