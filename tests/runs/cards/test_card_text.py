"""The text of a model card: what the Hub reads of it, and names that try to be markup."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from html import unescape

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from support.tasks_for_tests import TINY_PREPROCESSING, tiny_vit

import e2vpt
from e2vpt import AdapterInfo, RunConfig
from e2vpt.runs.cards.card_text import CardFacts, model_card
from e2vpt.training.evaluate import Metrics

NAMES = (
    *("plain", "row-2", "*bold*", "__init__", "[click](http://bad.example)", "<script>alert(1)</script>"),
    *("a | b", "`code`", "# title", "- item", "&lt;", "$x^2$", "http://bad.example", "@somebody", "~~out~~"),
    *("a: b", "'quoted'", '"double"', "back\\slash", "-->", "---", "katze 猫", "x" * 500, ":smile:"),
)


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> AdapterInfo:
    """An adapter of a model made by hand, whose classes have those names."""
    path = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    model = tiny_vit()
    model.reset_classifier(len(NAMES))  # type: ignore[operator]
    metrics = {"epoch": 3, "val_accuracy": 0.8123456789, "val_loss": 0.5}
    e2vpt.save_adapter(model, path, classes=NAMES, preprocessing=TINY_PREPROCESSING, metrics=metrics)
    return e2vpt.read_adapter(path)


TEST = Metrics(accuracy=0.7654321, mean_class_accuracy=0.5, loss=0.875, num_images=1234)


def facts(figures: Mapping[str, Metrics] | None = None, **config: object) -> CardFacts:
    chosen = RunConfig(backbone="demo", **config)  # type: ignore[arg-type]
    counts = {"train": 1200, "val": 90}
    return CardFacts(
        config=chosen,
        figures=figures or {},
        counts=counts,
        augment="shift",
        trained_on="train",
        by_the_paper=False,
    )


def shown(text: str) -> str:
    """What a reader sees of Markdown, tags aside."""
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_names_are_shown_as_they_are(info: AdapterInfo) -> None:
    text = ModelCard(model_card(info, NAMES[5], facts())).text
    assert f"Classes: {', '.join(NAMES)}\n" in shown(text)
    assert shown(text).strip().startswith(NAMES[5] + "\n")
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    assert set(re.findall(r"<(\w+)", html)) == {
        *(
            "h1",
            "h2",
            "p",
            "a",
            "code",
            "pre",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "ul",
            "li",
            "strong",
        )
    }
    assert re.findall(r'href="([^"]*)"', html) == ["https://arxiv.org/abs/2307.13770"]


@pytest.mark.parametrize("name", [*NAMES, "two\nlines", "\n---\nlicense: mit", "null", "1e3", "\u202eturned"])
def test_the_metadata_are_what_the_hub_expects(info: AdapterInfo, name: str) -> None:
    card = ModelCard(model_card(info, name, facts()))
    data = card.data
    assert (data.library_name, data.pipeline_tag) == ("e2vpt", "image-classification")
    assert data.license is None and "# license:" in model_card(info, name, facts())
    assert set(data.tags) >= {"image-classification", "e2vpt", "visual-prompt-tuning"}
    accuracy, loss = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.812346)
    assert (loss.metric_type, loss.metric_value) == ("loss", 0.5)
    assert accuracy.dataset_split == "validation"
    if name.isprintable():
        assert data.model_name == accuracy.dataset_name == name
    assert "\n" not in data.model_name and "\u202e" not in data.model_name


def test_figures_and_settings(info: AdapterInfo) -> None:
    text = shown(model_card(info, "pets", facts()))
    rows = [line for line in text.splitlines() if line]
    for name, value in {
        "train": "1,200",
        "val": "90",
        "validation accuracy": "81.2%",
        "augmentation": "shift",
        "epochs": str(facts().config.train.epochs),
        "lr": str(facts().config.train.lr),
        "visual prompts": "3 in each of 2 blocks",
        "parameters of the head": str(info.num_head),
        "image size": "16 x 16",
    }.items():
        assert rows[rows.index(name) + 1] == value, name
    assert "Not chosen yet." in text


def test_figures_of_test_images(info: AdapterInfo) -> None:
    card = ModelCard(model_card(info, "pets", facts({"test": TEST})))
    assert [(found.dataset_split, found.metric_value) for found in card.data.eval_results] == [
        ("test", 0.765432),
        ("test", 0.875),
        ("validation", 0.812346),
        ("validation", 0.5),
    ]
    assert "| test accuracy | 76.5% of 1,234 images |" in card.text
    assert "| test accuracy, mean over classes | 50.0% |" in card.text
    assert "of your own" not in card.text and "optimistic" in card.text
    assert "of your own" in model_card(info, "pets", facts())


def test_without_a_run_and_without_figures(info: AdapterInfo) -> None:
    card = ModelCard(model_card(dataclasses.replace(info, metrics={}), "pets"))
    assert card.data.eval_results is None and card.data.metrics is None
    assert "epochs" not in card.text and "optimistic" not in card.text and "config.json" not in card.text


def test_what_the_paper_searched_is_not_named_as_a_setting(info: AdapterInfo) -> None:
    text = model_card(info, "pets", dataclasses.replace(facts(), by_the_paper=True))
    assert "| lr | searched, as in the paper |" in text and "| weight decay | searched" in text


def test_many_classes_are_counted(info: AdapterInfo) -> None:
    many = dataclasses.replace(info, classes=tuple(f"c{i}" for i in range(150)))
    text = model_card(many, "pets")
    assert "c99, and 50 more" in text and "c100" not in text


def test_weights_of_a_file_are_not_said_to_be_the_hubs(info: AdapterInfo) -> None:
    named = dataclasses.replace(info, backbone="vit_base_patch16_224.augreg_in21k")
    assert ModelCard(model_card(named, "pets", facts())).data.base_model == f"timm/{named.backbone}"
    other = facts(weights="/home/owner/secret/vit.pth")
    assert ModelCard(model_card(named, "pets", other)).data.base_model is None
    text = model_card(named, "pets", other)
    assert (
        "weights came from a file" in text
        and "`--weights FILE`" in text
        and "/home" not in text
        and "secret" not in text
    )
