"""The paper, sections 3.1-3.2: where prompts enter, one block's prompts, attention with them, each family.

May import: errors, config, backbones.
Never: pruning, training: a prompted model is a plain module, which anyone may train.
"""
