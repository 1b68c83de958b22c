"""`e2vpt backbones` as a person calls it."""

from __future__ import annotations

import json

import pytest

from e2vpt.backbones.supported import supported_architectures
from e2vpt.cli.commands.backbones import backbones_command
from e2vpt.errors import BackboneError


def test_all_of_them_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    backbones_command([])
    lines = capsys.readouterr().out.splitlines()
    known = supported_architectures()
    tags = sum(len(each.tags) for each in known)
    assert lines[-1] == f"{len(known)} architectures, {tags} pretrained tags"
    assert "vit_tiny_patch16_224  5.5 M parameters, 224 x 224 px, pooling token" in lines
    assert "vit-b16-mae  preset of vit_base_patch16_224.mae" in lines


def test_words_choose(capsys: pytest.CaptureFixture[str]) -> None:
    backbones_command(["dinov2", "Small"])
    shown = capsys.readouterr().out
    assert "  .lvd142m  (licence: apache-2.0)" in shown and shown.endswith(
        "2 architectures, 2 pretrained tags\n"
    )
    backbones_command(["dinov2", "small"], as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["num_architectures"], found["num_tags"]) == (2, 2)
    assert found["backbones"][0]["tags"] == {"lvd142m": "apache-2.0"}


def test_nothing_of_that_name_gets_the_closest() -> None:
    with pytest.raises(BackboneError, match=r"called vit_tinny\. Closest: .*vit_tiny"):
        backbones_command(["vit_tinny"])
