"""The method done the plain way, with timm's own blocks: prompt rows really stand in the sequence.

Nothing of e2vpt computes here. An oracle takes the backbone as it was before `prompt()` and the prompted
model's parameters, so gradients of both reach the same tensors.
"""
