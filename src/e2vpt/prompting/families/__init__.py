"""What each family of backbones needs: its attention, travelling prompts, its short way to logits.

May import: errors, config, backbones, and attention and tables of prompting.
Never: prompting.install, which puts them into a backbone.
"""
