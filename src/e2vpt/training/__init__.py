"""The loop: fit, evaluate, checkpoints, several processes, precision, the frozen prefix.

May import: errors, config, files, backbones, prompting, data.
Never: methods, pruning, adapters: it trains what requires grad, whatever that is.
"""
