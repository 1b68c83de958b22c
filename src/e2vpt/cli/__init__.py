"""One function for each command; flags, tables and progress on the terminal.

May import: every package.
Nothing but `__main__` imports this package.
"""
