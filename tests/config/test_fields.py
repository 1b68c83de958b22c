"""Settings check themselves when made, each with a message that says what was found and expected."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from functools import partial
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.refusals import not_refused

from e2vpt.config import DataConfig, GridConfig, PromptConfig, PruneConfig, SearchConfig, TrainConfig
from e2vpt.config.fields import from_dict, to_dict
from e2vpt.errors import ConfigError

CLASSES = (PromptConfig, DataConfig, TrainConfig, PruneConfig, GridConfig, SearchConfig)
counts = st.integers(0, 50) | st.lists(st.integers(0, 50), min_size=1, max_size=12).map(tuple)
fractions = st.floats(0, 1, exclude_max=True)
positive = st.floats(0, 1e6)


def choices(cls: type[Any], name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(get_args(get_type_hints(cls)[name]))


PROMPT = st.builds(
    PromptConfig,
    num_visual=counts,
    num_kv=counts,
    share_kv=st.booleans(),
    dropout=fractions,
    pool_prompts=st.booleans(),
    **{n: choices(PromptConfig, n) for n in ("visual_depth", "kv_depth", "init", "kv_init")},
)
DATA = st.builds(
    DataConfig,
    image_size=st.none() | st.integers(8, 2000),
    val_fraction=st.floats(0, 0.49),
    test_fraction=st.floats(0, 0.49),
    split_seed=st.integers(0, 2**40),
    workers=st.integers(0, 64),
    **{n: choices(DataConfig, n) for n in ("preprocess", "augment", "train_on")},
)
TRAIN = st.builds(
    TrainConfig,
    epochs=st.integers(1, 1000),
    batch_size=st.integers(64, 1024),
    accumulation=st.integers(1, 64),
    lr=positive,
    weight_decay=positive,
    momentum=fractions,
    warmup=fractions,
    label_smoothing=fractions,
    patience=st.integers(0, 100),
    seed=st.integers(0, 2**40),
    grad_checkpointing=st.booleans(),
    **{n: choices(TrainConfig, n) for n in ("optimizer", "precision", "class_weights")},
)


@settings(max_examples=60, deadline=None)
@given(PROMPT | DATA | TRAIN)
def test_json_and_pickle_round_trips(config: Any) -> None:
    values = json.loads(json.dumps(to_dict(config)))
    assert from_dict(type(config), values) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(dataclasses.replace(config))


@pytest.mark.parametrize("cls", CLASSES)
def test_fields_are_keyword_only_frozen_and_explained(cls: type[Any]) -> None:
    config = cls()
    for f in dataclasses.fields(cls):
        assert f.kw_only and f.metadata["help"].endswith(".")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, f.name, f.default)
    with pytest.raises(TypeError):
        cls(1)


REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (PromptConfig, {"num_visual": -1}, "num_visual is -1; expected a whole number of at least 0."),
    (PromptConfig, {"num_kv": 1.5}, "num_kv is 1.5; expected a whole number of at least 0."),
    (PromptConfig, {"num_kv": True}, "num_kv is True; expected a whole number of at least 0."),
    (PromptConfig, {"num_visual": (1, -2)}, "num_visual is -2; expected a whole number of at least 0."),
    (PromptConfig, {"num_visual": [1, 2]}, "num_visual is [1, 2]; expected a whole number of at least 0."),
    (PromptConfig, {"num_visual": ()}, "num_visual is empty; give one count, or one per block."),
    (PromptConfig, {"visual_depth": "mid"}, "visual_depth is 'mid'; expected one of deep, shallow."),
    (PromptConfig, {"kv_depth": None}, "kv_depth is None; expected one of deep, shallow."),
    (PromptConfig, {"init": "x"}, "init is 'x'; expected one of uniform, normal, zeros, patch."),
    (PromptConfig, {"kv_init": "x"}, "kv_init is 'x'; expected one of kaiming, normal, zeros, patch."),
    (PromptConfig, {"dropout": 1.0}, "dropout is 1.0; expected a number in [0.0, 1.0)."),
    (PromptConfig, {"dropout": math.nan}, "dropout is nan; expected a number in [0.0, 1.0)."),
    (PromptConfig, {"dropout": "0.1"}, "dropout is '0.1'; expected a number in [0.0, 1.0)."),
    (DataConfig, {"image_size": 7}, "image_size is 7; expected a whole number of at least 8."),
    (
        DataConfig,
        {"preprocess": "x"},
        "preprocess is 'x'; expected one of backbone, imagenet, imagenet-crop.",
    ),
    (DataConfig, {"val_fraction": -0.1}, "val_fraction is -0.1; expected a number in [0.0, 1.0)."),
    (DataConfig, {"test_fraction": 1}, "test_fraction is 1; expected a number in [0.0, 1.0)."),
    (DataConfig, {"val_fraction": 0.5, "test_fraction": 0.5}, "nothing would be left to train on."),
    (DataConfig, {"split_seed": -1}, "split_seed is -1; expected a whole number of at least 0."),
    (DataConfig, {"workers": -1}, "workers is -1; expected a whole number of at least 0."),
    (TrainConfig, {"epochs": 0}, "epochs is 0; expected a whole number of at least 1."),
    (TrainConfig, {"batch_size": 0}, "batch_size is 0; expected a whole number of at least 1."),
    (TrainConfig, {"accumulation": 0}, "accumulation is 0; expected a whole number of at least 1."),
    (TrainConfig, {"accumulation": 65}, "accumulation is 65, more parts than the 64 images of a batch."),
    (TrainConfig, {"lr": math.inf}, "lr is inf; expected a number in [0.0, inf)."),
    (TrainConfig, {"lr": -1}, "lr is -1; expected a number in [0.0, inf)."),
    (TrainConfig, {"weight_decay": math.nan}, "weight_decay is nan; expected a number in [0.0, inf)."),
    (TrainConfig, {"momentum": 1}, "momentum is 1; expected a number in [0.0, 1.0)."),
    (TrainConfig, {"warmup": 1.5}, "warmup is 1.5; expected a number in [0.0, 1.0)."),
    (TrainConfig, {"label_smoothing": -1}, "label_smoothing is -1; expected a number in [0.0, 1.0)."),
    (TrainConfig, {"patience": -1}, "patience is -1; expected a whole number of at least 0."),
    (TrainConfig, {"seed": 0.5}, "seed is 0.5; expected a whole number of at least 0."),
    (TrainConfig, {"optimizer": "x"}, "optimizer is 'x'; expected one of adamw, sgd."),
    (TrainConfig, {"precision": "fp8"}, "precision is 'fp8'; expected one of fp32, bf16, fp16."),
    (TrainConfig, {"class_weights": "x"}, "class_weights is 'x'; expected one of none, balanced."),
    (PruneConfig, {"keep": 1.1}, "keep is 1.1; expected a share from 0 to 1."),
    (PruneConfig, {"keep_tokens": (0.5, -0.1)}, "keep_tokens is -0.1; expected a share from 0 to 1."),
    (PruneConfig, {"keep": 0}, "keep is 0; pruning always keeps a little"),
    (PruneConfig, {"keep_tokens": (0.5, 0.0)}, "keep_tokens is 0; pruning always keeps a little"),
    (PruneConfig, {"keep_segments": [0.5]}, "keep_segments is [0.5]; expected a tuple of shares."),
    (PruneConfig, {"finalists": 0}, "finalists is 0; expected a whole number of at least 1."),
    (GridConfig, {"grid_optimizer": "lion"}, "grid_optimizer is 'lion'; expected one of adamw, sgd."),
    (GridConfig, {"base_lrs": ()}, "base_lrs is empty; expected at least one number."),
    (GridConfig, {"base_lrs": (0.1, -1.0)}, "base_lrs is -1.0; expected a number in [0.0, inf)."),
    (GridConfig, {"weight_decays": (0.1, 0.1)}, "weight_decays is (0.1, 0.1); a number is twice in it."),
    (GridConfig, {"keep_ratios": (0.0,)}, "keep_ratios is 0; pruning always keeps"),
    (SearchConfig, {"keep_choices": (0, 1.0)}, "keep_choices is 0; pruning always keeps"),
    (GridConfig, {"keep_ratios": (1.5,)}, "keep_ratios is 1.5; expected a share from 0 to 1."),
    (GridConfig, {"final_seeds": (1, -1)}, "final_seeds is -1; expected a whole number of at least 0."),
    (SearchConfig, {"trials": 0}, "trials is 0; expected a whole number of at least 1."),
    (SearchConfig, {"lr_range": (0.1, 0.01)}, "lr_range is (0.1, 0.01); expected two positive numbers"),
    (SearchConfig, {"keep_choices": ()}, "keep_choices is empty; expected at least one share."),
]


def test_a_bad_setting_is_named() -> None:
    cases = [(partial(cls, **values), re.escape(message)) for cls, values, message in REFUSED]
    assert not_refused(cases, ConfigError) == []


def test_json_of_the_wrong_shape_is_named() -> None:
    wrong: list[tuple[type[Any], dict[str, Any], str]] = [
        (
            PromptConfig,
            {"num_visuals": 3},
            "PromptConfig has no field 'num_visuals'; it has attention, dropout",
        ),
        (PromptConfig, {"share_kv": 1}, "PromptConfig.share_kv is 1; expected bool."),
        (PromptConfig, {"dropout": True}, "PromptConfig.dropout is True; expected float."),
        (PromptConfig, {"init": ["zeros"]}, "PromptConfig.init is ('zeros',); expected str."),
        (PromptConfig, {"num_kv": [1, "2"]}, "num_kv is '2'; expected a whole number"),
        (TrainConfig, {"lr": "1"}, "lr is '1'; expected a number"),
        (TrainConfig, {"warmup": "1"}, "TrainConfig.warmup is '1'; expected float."),
        (TrainConfig, {"epochs": "1"}, "epochs is '1'; expected a whole number"),
        (DataConfig, {"image_size": "224"}, "image_size is '224'; expected a whole number"),
    ]
    cases = [(partial(from_dict, cls, values), re.escape(message)) for cls, values, message in wrong]
    assert not_refused(cases, ConfigError) == []


def test_numbers_beyond_floats_and_words_for_bools_are_refused() -> None:
    with pytest.raises(ConfigError, match="dropout is 10"):
        PromptConfig(dropout=10**400)
    with pytest.raises(ConfigError, match="share_kv is 'no'; expected True or False"):
        PromptConfig(share_kv="no")  # type: ignore[arg-type]
