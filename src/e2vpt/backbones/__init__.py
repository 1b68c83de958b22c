"""A timm name, a preset or local weights as a frozen model; the fingerprint of its weights.

May import: errors, config, files.
Never: prompting: a backbone does not know that prompts exist.
"""
