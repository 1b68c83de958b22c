"""Files that are no weights, damaged or hostile: each refused with its reason."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from support.weights_for_tests import prefixed, to_jax, vit
from torch import Tensor

from e2vpt.backbones.weight_files import read_weights
from e2vpt.errors import WeightsError


def test_tensors_with_and_without_prefix_are_ambiguous(tmp_path: Path) -> None:
    state = vit().state_dict()
    torch.save({**state, **prefixed(state, "backbone.")}, tmp_path / "twice.pth")
    with pytest.raises(WeightsError, match=r"twice, with and without 'backbone.'"):
        read_weights(tmp_path / "twice.pth")


ODD: dict[str, tuple[Callable[[], Tensor], str]] = {
    "expanded": (
        lambda: torch.zeros(1).expand(10**6, 10**6),
        r"\[1000000, 1000000\] of fewer stored numbers",
    ),
    "sparse": (lambda: torch.ones(1, 5, 64).to_sparse(), "sparse_coo"),
    "rows": (lambda: torch.ones(5, 64).to_sparse_csr(), "sparse_csr"),
    "meta": (lambda: torch.ones(1, 5, 64, device="meta"), "on device meta"),
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(64), 0.1, 0, torch.quint8), "quantized"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]), "nested"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["pos_embed", "norm.weight"])
@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_no_arrays_are_refused_before_a_value_is_read(
    tmp_path: Path, kind: str, name: str
) -> None:
    """timm resamples position embeddings: an expanded one would never end."""
    make, message = ODD[kind]
    torch.save({**vit().state_dict(), name: make()}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=rf"odd.pth holds tensors that are no .*: {name} \({message}\)"):
        read_weights(tmp_path / "odd.pth")


def test_archives_that_unpack_to_far_more_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", cls=np.zeros(10**8, dtype=np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 10**6
    with pytest.raises(
        WeightsError, match=r"bomb.npz cannot be read: ValueError: it would unpack to 4\d+ bytes"
    ):
        read_weights(tmp_path / "bomb.npz")


def test_an_array_that_says_it_is_large_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "lie.npz", cls=np.zeros(3, dtype=np.float32))
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / "lie.npz", "a") as archive:
        archive.writestr("large.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode())
    with pytest.raises(WeightsError, match=r"large.npy says \[1000000000000\] and has fewer bytes"):
        read_weights(tmp_path / "lie.npz")


def test_no_advice_to_run_a_strangers_code(tmp_path: Path) -> None:
    (tmp_path / "odd.pth").write_bytes(pickle.dumps(range(3), protocol=4))
    with pytest.raises(WeightsError) as caught:
        read_weights(tmp_path / "odd.pth")
    assert "weights_only" not in str(caught.value)


class Hostile:
    """Unpickled without protection, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"model": Hostile(tmp_path / "made")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil.pth was not read: it needs the code \w+.mkdir"):
        read_weights(tmp_path / "evil.pth")
    np.savez(tmp_path / "evil.npz", cls=np.array([Hostile(tmp_path / "made")], dtype=object))
    with pytest.raises(
        WeightsError, match=r"evil.npz cannot be read: ValueError: Object arrays cannot be loaded"
    ):
        read_weights(tmp_path / "evil.npz")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"part{suffix}"
    state = vit().state_dict()
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, whole)
    elif suffix == ".pth":
        torch.save(state, whole)
    else:
        np.savez(whole, **to_jax(state, 2))
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(
        WeightsError, match=rf"part\{suffix} (cannot be read|is damaged or not a PyTorch weights file)"
    ):
        read_weights(path)


def test_paths_that_are_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no weights file .*absent\.pth\. Check the path"):
        read_weights(tmp_path / "absent.pth")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        WeightsError, match=r"is a folder; give the weights file itself .*Found in it: model\.safe"
    ):
        read_weights(tmp_path)
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"has the suffix '\.onnx'; weights files end in \.safetensors, "):
        read_weights(tmp_path / "w.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "found a list, expected a dictionary of tensors"),
        ({}, "found a dict"),
        ({"model": {}}, "found a dict"),
        ({"epoch": 3, "weights": {"a": torch.ones(1)}}, "found the entries epoch, weights"),
        ({1: torch.ones(1)}, "found the entries 1"),
    ],
)
def test_torch_files_without_weights(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "w.pt")


def test_a_dictionary_inside_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "loop.pt")
    with pytest.raises(WeightsError, match="found the entries model"):
        read_weights(tmp_path / "loop.pt")
