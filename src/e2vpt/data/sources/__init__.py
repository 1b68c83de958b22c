"""Where labelled images come from: class folders, archives, tables, the Hub, objects; and their splits.

May import: errors, config, files, data.decoding, data.task, data.randomness.
Never: what makes batches.
"""
