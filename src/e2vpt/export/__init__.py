"""An adapted model as a file that runs without this package: ONNX, or torch.export.

May import: every package above it, which ends with serving.
Never: benchmarks, cli.
"""
