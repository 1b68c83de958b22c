"""The file of a task: its header, how prompts lie in it, does it fit a backbone, save and load.

May import: every package above it, which ends with data.
Never: training, runs: a file does not know how its task was trained.
"""
