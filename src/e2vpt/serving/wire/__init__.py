"""Bytes of strangers, bounded before they are understood: bodies, JSON, forms, binary tensors.

May import: errors, files, serving.refusals.
Never: the rest of serving.
"""
