"""The commands: their flags, what they refuse, and who does the work.

May import: options, flags and output of cli at once; what works (jobs, other packages) inside the
command, so that flags, help and refusals start without torch.
Never: app.
"""
