"""The methods that are compared: names of rows, what they differ in, which learning rates they may try."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2vpt.config.fields import check_number
from e2vpt.config.recipes import PUBLISHED_PROMPTS, PUBLISHED_PRUNING
from e2vpt.config.recipes import PUBLISHED_START as PUBLISHED
from e2vpt.errors import ConfigError, needs
from e2vpt.methods.names import PEFT_METHODS

if TYPE_CHECKING:
    from e2vpt.runs.folders.run_config import RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedMethod:
    """A row of the comparison.

    Attributes:
        method: of `methods.names.METHODS`.
        lrs: the learning rates that are tried.
        prompts, options: what differs from the settings of the comparison.
        prunes: prune, rewind and train again (methods with visual prompts).
        pruning: what differs from the pruning of the comparison.
    """

    method: str
    lrs: Sequence[float]
    prompts: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prunes: bool = False
    pruning: Mapping[str, Any] = field(default_factory=dict)


_PROMPT_LRS = (2e-3, 5e-3, 1e-2)
_OUR_LRS = (2e-3, 5e-3, 1e-2)
_LRS = (5e-3, 1e-2, 2e-2)
_PLAIN: Mapping[str, Any] = {"beside": "none"}
# Two whole trainings, however few epochs each has: rewinding is part of the paper's method.
_PRUNING: Mapping[str, Any] = {**PUBLISHED_PRUNING, "prune_at": 1.0, "rewind": "initial"}
ENTRIES: Mapping[str, ComparedMethod] = {
    "linear": ComparedMethod(method="linear", lrs=(1e-3, 2e-3, 5e-3)),
    "full": ComparedMethod(method="full", lrs=(1e-4, 3e-4, 1e-3)),
    "partial-1": ComparedMethod(method="partial", lrs=(3e-4, 1e-3, 3e-3)),
    "mlp-3": ComparedMethod(method="mlp", lrs=(1e-3, 3e-3, 1e-2)),
    "sidetune": ComparedMethod(method="sidetune", lrs=(2e-3, 5e-3, 1e-2)),
    "bias": ComparedMethod(method="bias", lrs=_LRS),
    # Scales and shifts of every frozen linear layer as in SSF (arXiv 2210.08823), none behind LayerNorms.
    "ssf": ComparedMethod(method="bias", lrs=_OUR_LRS, options={"beside": "scale"}),
    "layernorm": ComparedMethod(method="layernorm", lrs=_LRS),
    "adapter": ComparedMethod(method="adapter", lrs=(3e-3, 1e-2, 3e-2)),
    **{method: ComparedMethod(method=method, lrs=(3e-3, 1e-2, 3e-2)) for method in PEFT_METHODS},
    **{method: ComparedMethod(method=method, lrs=(1e-2, 3e-2, 1e-1)) for method in ("loha", "lokr", "ia3")},
    # The paper's own rows: initial values as published, prompts and head tuned, nothing beside them.
    "vpt-shallow": ComparedMethod(method="vpt-shallow", lrs=_PROMPT_LRS, prompts=PUBLISHED),
    "vpt-deep": ComparedMethod(method="vpt-deep", lrs=_PROMPT_LRS, prompts=PUBLISHED),
    "vpt-deep+prune": ComparedMethod(
        method="vpt-deep", lrs=_PROMPT_LRS, prompts=PUBLISHED, prunes=True, pruning=_PRUNING
    ),
    "kv": ComparedMethod(method="kv", lrs=_LRS, prompts=PUBLISHED),
    "e2vpt-paper-no-prune": ComparedMethod(
        method="e2vpt", lrs=_PROMPT_LRS, prompts=PUBLISHED_PROMPTS, options=_PLAIN
    ),
    "e2vpt-paper": ComparedMethod(
        method="e2vpt",
        lrs=_PROMPT_LRS,
        prompts=PUBLISHED_PROMPTS,
        options=_PLAIN,
        prunes=True,
        pruning=_PRUNING,
    ),
    # Ours, and ours without one of its parts.
    "e2vpt-no-prune": ComparedMethod(method="e2vpt", lrs=_OUR_LRS),
    "e2vpt": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, prunes=True),
    "e2vpt-no-scale": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, options={"beside": "bias"}),
    "e2vpt-prompts-only": ComparedMethod(method="e2vpt", lrs=_LRS, options=_PLAIN),
    "e2vpt-no-patch-init": ComparedMethod(method="e2vpt", lrs=_PROMPT_LRS, prompts=PUBLISHED),
    "e2vpt-kv": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, prompts={"num_kv": PUBLISHED_PROMPTS["num_kv"]}),
}


def entries_named(names: Sequence[str]) -> dict[str, ComparedMethod]:
    """Some of the rows, in this order.

    Raises:
        ConfigError: a name of none of them, or no name.
    """
    unknown = [name for name in names if name not in ENTRIES]
    if unknown or not names:
        raise ConfigError(f"methods: {', '.join(unknown) or 'none'}; expected some of {', '.join(ENTRIES)}.")
    return {name: ENTRIES[name] for name in names}


def with_rates(
    entries: Mapping[str, ComparedMethod], rates: Mapping[str, float]
) -> dict[str, ComparedMethod]:
    """The rows, those of `rates` with this one learning rate, which then needs no choosing.

    Raises:
        ConfigError: a rate for none of the rows, or one that is no positive number.
    """
    unknown = [name for name in rates if name not in entries]
    if unknown:
        raise ConfigError(f"rates: {', '.join(unknown)} is not compared; compared are {', '.join(entries)}.")
    for name, rate in rates.items():
        check_number(f"the rate of {name}", rate, 0.0, math.inf)
    return {
        name: dataclasses.replace(entry, lrs=(rates[name],)) if name in rates else entry
        for name, entry in entries.items()
    }


def pruned_as_asked(entry: ComparedMethod, given: Collection[str]) -> ComparedMethod:
    """The row without pruning of its own in the settings that somebody gave."""
    own = {name: value for name, value in entry.pruning.items() if name not in given}
    return dataclasses.replace(entry, pruning=own)


def check_extras(entries: Iterable[ComparedMethod]) -> None:
    """Find what the rows and their report import, before hours are spent on them.

    Raises:
        MissingExtra: Matplotlib is not installed, or PEFT where a row is its method.
    """
    with needs("bench", "The report has a picture by Matplotlib"):
        import matplotlib.figure  # noqa: F401
    names = [entry.method for entry in entries if entry.method in PEFT_METHODS]
    if names:
        with needs("bench", f"Method {names[0]} is PEFT's"):
            import peft  # noqa: F401


def config_of(config: RunConfig, entry: ComparedMethod, lr: float | None, seed: int) -> RunConfig:
    """The settings of one training; without a rate, the method's own."""
    prompts = dict(entry.prompts)
    if config.prompts.has_key_value:  # Their number was asked for.
        prompts.pop("num_kv", None)
    own = dataclasses.replace(
        config,
        method=entry.method,
        prompts=dataclasses.replace(config.prompts, **prompts),
        options=dataclasses.replace(config.options, **entry.options),
    )
    return dataclasses.replace(own, train=dataclasses.replace(config.train, lr=lr, seed=seed))
