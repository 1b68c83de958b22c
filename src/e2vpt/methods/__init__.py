"""What the paper compares with. One contract: a model whose `requires_grad` says what is tuned.

May import: errors, config, backbones, prompting.
Never: adapters, training: a method neither saves nor trains itself.
"""
