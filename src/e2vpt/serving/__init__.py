"""Tasks over HTTP: the batcher, the Open Inference Protocol, uploads, metrics.

May import: every package above it, which ends with multitask.
Never: export, benchmarks, cli. Only `app` and what it mounts need the extra [serve].
"""
