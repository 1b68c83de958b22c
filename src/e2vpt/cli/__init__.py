"""One function for each command; flags, tables and progress on the terminal.

May import: every package. What works is imported by the command that needs it, when it runs: flags, help and
refusals start without torch.
Nothing but `__main__` imports this package.
"""
