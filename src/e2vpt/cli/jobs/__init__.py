"""What the larger commands do once their flags are read.

May import: every package, and options and output of cli.
Never: commands, app.
"""
