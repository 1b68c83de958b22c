"""Adapter files that cannot be used say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.adapter_files import edited, with_tensors
from support.adapters_for_tests import BACKBONES, fresh, save

import e2vpt
from e2vpt.errors import AdapterFormatError
from e2vpt.files.container import read_container

pytestmark = pytest.mark.usefixtures("one_thread")


def unreadable(path: Path, message: str) -> None:
    for read in (e2vpt.read_adapter, lambda file: e2vpt.load_adapter(file, fresh("vit"))):
        with pytest.raises(AdapterFormatError, match=message) as caught:
            read(path)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1200


def test_truncated_at_every_fiftieth(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    for part in range(50):
        (tmp_path / "cut").write_bytes(content[: len(content) * part // 50])
        with pytest.raises(AdapterFormatError, match=r"cut is damaged or not an e2vpt file: .*Copy it again"):
            e2vpt.load_adapter(tmp_path / "cut", BACKBONES["vit"])


def test_no_adapter_at_all(path: Path, tmp_path: Path) -> None:
    unreadable(path, r"Cannot read .*task.safetensors: No such file or directory")
    unreadable(tmp_path, "Cannot read .*: it is not a file")
    path.write_bytes(b"")
    unreadable(path, "is damaged or not an e2vpt file: it has 0 bytes")
    path.write_bytes(b"GIF89a" + bytes(200))
    unreadable(path, "is damaged or not an e2vpt file")
    safetensors.torch.save_file(BACKBONES["vit"].state_dict(), path)
    unreadable(path, "is a safetensors file, but not one of e2vpt")
    torch.save({"head.weight": torch.ones(3)}, path)
    unreadable(path, "is damaged or not an e2vpt file")


def test_a_newer_format(saved: Path, tmp_path: Path) -> None:
    newer = edited(saved, tmp_path / "newer", {"format": 2, "prompts": "of another kind"})
    unreadable(
        newer, "newer has adapter format 2; this e2vpt reads up to 1. Upgrade it: pip install -U e2vpt"
    )
    for value in (0, -1, "1", 1.0, True, None, [1], "\x1b[31m" * 1000):
        strange = edited(saved, tmp_path / "strange", {"format": value})
        unreadable(strange, "the header's format is .*; expected a whole number from 1")
    unreadable(edited(saved, tmp_path / "huge", {"format": 10**4000}), "has adapter format 1000.*Upgrade it")
    unreadable(edited(saved, tmp_path / "none", {}, drop=("format",)), "the header's format is None")


def test_a_checkpoint_is_no_adapter(tmp_path: Path, saved: Path) -> None:
    header = {"kind": "checkpoint"}
    e2vpt.files.container.write_container(tmp_path / "c", header, read_container(saved)[1])
    unreadable(tmp_path / "c", "the header's format is None")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 4, "prompts.num_visual": 3}, r"promise other tensors: missing .*blocks.3.key"),
        ({"prompts.num_visual": 9_999}, r"tensor keep has shape \[\d+\]; expected \["),
        ({"prompts.num_visual": 10**9}, r"num_visual is 1000000000; the most is 10000"),
        (
            {"prompts.num_kv": 3},
            r"blocks.0.key is torch.float32 \[3, 2, 16\]; expected .*\['any', 3, 'any'\]",
        ),
        ({"prompts.dropout": 10**400}, r"dropout is 10+\.\.\.; expected a number in \[0\.0, 1\.0\)"),
        ({"classes": ["a", "b"]}, r"is torch.float32 \[7.*expected torch.float32 \[2"),
        ({"classes": list("aabcdef")}, "two classes have the same name"),
        ({"classes": ["\x1b[2J", *"abcdef"]}, r"'\\x1b\[2J' is not a printable name"),
        ({"metrics": {"val": 10**400}}, "a metric is 1000"),
        (
            {"metrics": {"val_accuracy": 1.5}},
            "the metric val_accuracy is 1.5; expected an accuracy from 0 to 1",
        ),
        ({"metrics": {"val_loss": -0.1}}, "the metric val_loss is -0.1"),
        ({"fingerprint": "A" * 64}, "fingerprint is .*expected 64 digits in hex"),
        ({"licence": "none"}, "format 1 has no field 'licence'"),
        ({"method": "linear"}, "method linear has no room for the prompts 3, 2"),
        ({"method": "vpt-deep"}, "method vpt-deep has no room"),
        ({"method": "kv"}, "method kv has no room"),
        ({"method": "full"}, "method full has no room"),
        ({"backbone": "/etc/passwd"}, "'/etc/passwd' was found where letters"),
        ({"backbone": "vit\nsmall"}, r"'vit\\nsmall' was found where letters"),
        ({"preprocessing.image_size": [10**9, 10**9]}, "image_size is .*expected sides from 8 to"),
        ({"preprocessing": {"\x1b[31m": 1}}, r"Preprocessing has \\x1b\[31m; expected exactly image_size"),
        ({"preprocessing.interpolation": "\x1b" * 5000}, "interpolation is .*"),
        ({"method": "m" * 300_000}, r"'m+ \.\.\."),
    ],
)
def test_headers_that_cannot_be(saved: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    unreadable(edited(saved, tmp_path / "bad", changes), f"bad: the header cannot be used: .*({message})")


@pytest.mark.parametrize("method", ["linear", "lora", "bias"])
def test_a_method_without_visual_prompts_pruned_none(tmp_path: Path, method: str) -> None:
    model = e2vpt.adapt(fresh("vit"), method, e2vpt.PromptConfig())
    save(model, tmp_path / "whole", classes=list("abcdefg"))
    blocks = read_container(tmp_path / "whole")[0]["blocks"]
    changed = edited(tmp_path / "whole", tmp_path / "bad", {"visual_before": [32] * blocks})
    unreadable(changed, f"visual_before is .*; method {method} has no visual prompts")


def test_a_missing_field_is_named(saved: Path, tmp_path: Path) -> None:
    for field in json.loads(json.dumps(read_container(saved)[0])):
        if field != "format":
            unreadable(
                edited(saved, tmp_path / "bad", {}, drop=(field,)), f"cannot be used: it has no '{field}'"
            )


def test_nothing_of_a_bad_head_is_left_random(saved: Path, tmp_path: Path) -> None:
    """Without its bias, a head would keep whatever the backbone had there."""
    unreadable(with_tensors(saved, tmp_path / "bad", {"head.bias": None}), r"missing \['head.bias'\]")
