"""One function for each command; flags, tables and progress on the terminal.

May import: every package. Inside it stand, each below those before it: options, flags and output; jobs;
commands; app.
Nothing but `__main__` imports this package.
"""
