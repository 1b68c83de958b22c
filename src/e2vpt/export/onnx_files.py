"""A graph as an ONNX file, and that file computed by onnxruntime."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from e2vpt.errors import ExportError, needs

_LARGEST = 2**31 - 2**24
"""Bytes of weights in a single file: protobuf ends at 2 GiB."""


def check_onnx() -> None:
    """See that what writes and runs ONNX files is installed.

    Raises:
        MissingExtra: it is not.
    """
    with needs("export", "ONNX files need onnx, onnxruntime and onnxscript"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


def onnx_bytes(program: ExportedProgram, inputs: Sequence[str], notes: Mapping[str, Any]) -> bytes:
    """The file; `inputs` are the names of its inputs, `notes` its metadata.

    Raises:
        ExportError: more weights than a file holds, or an operation that ONNX does not have.
    """
    tensors = [
        *program.state_dict.values(),
        *(c for c in program.constants.values() if isinstance(c, Tensor)),
    ]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > _LARGEST:
        raise ExportError(
            f"The model has {size} bytes of weights, and an ONNX file holds at most {_LARGEST}. "
            "Export it to torch-export."
        )
    try:
        with _quiet():
            made = torch.onnx.export(
                program, input_names=list(inputs), output_names=["logits"], dynamo=True, verbose=False
            )
    except Exception as error:  # whatever the converter meets
        raise ExportError(f"torch cannot write this graph as ONNX: {error}") from error
    assert made is not None
    return _finished(made.model_proto, notes)


def _finished(model: Any, notes: Mapping[str, Any]) -> bytes:
    """With our metadata instead of torch's of every operation, and a name for the batch."""
    from onnx.helper import set_model_props

    graph = model.graph
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # They call the batch by torch's own symbols.
    del graph.value_info[:]
    for part in [graph, *graph.input, *graph.output, *graph.initializer, *graph.node]:
        del part.metadata_props[:]
    texts = {name: note if isinstance(note, str) else json.dumps(note) for name, note in notes.items()}
    set_model_props(model, texts)
    content: bytes = model.SerializeToString()
    return content


def opened_onnx(content: bytes) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """A file as onnxruntime computes it on the CPU: from inputs by name to logits."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        (logits,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(logits)

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The optimizer says of every operation what it leaves as it is."""
    logger = logging.getLogger("onnxscript")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
