"""The model card of a run, RUN/README.md.

Its last line is a checksum of the others: a card that somebody has edited is not written again.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

from e2vpt.adapters.files import read_adapter
from e2vpt.errors import RunError
from e2vpt.files.atomic import write_atomic
from e2vpt.files.paths import look_at
from e2vpt.runs.cards.card_text import CardFacts, model_card
from e2vpt.runs.folders.augmentation import augmentation_of
from e2vpt.runs.folders.figures import read_figures
from e2vpt.runs.folders.finding import task_name
from e2vpt.runs.folders.folder import ADAPTER, CONFIG, holds_run, is_by_the_paper, read_config
from e2vpt.runs.folders.identity import SPLITS, saved_images
from e2vpt.runs.folders.run_config import saved_run_config, trained_on

CARD = "README.md"
_SEAL = re.compile(r"\n<!-- e2vpt ([0-9a-f]{64}) -->\n\Z")


def write_card(run: Path) -> bool:
    """Write the card of a finished run; False where its card was edited, and stays as it is.

    Raises:
        RunError: the run's files cannot be read, or the card cannot be written.
    """
    path = run / CARD
    if look_at(path) != "nothing" and not is_generated(read_card(path)):
        return False
    write_atomic(path, card_of(run / ADAPTER).encode())
    return True


def card_of(adapter: Path) -> str:
    """The card of an adapter file; where it is that of a run, with images and settings.

    Raises:
        AdapterFormatError, RunError: the files cannot be read.
    """
    info, run = read_adapter(adapter), adapter.parent
    if adapter.name != ADAPTER or not holds_run(run):
        return _sealed(model_card(info, task_name(adapter)))
    saved = read_config(run / CONFIG)
    config = saved_run_config(run)
    facts = CardFacts(
        config=config,
        figures=read_figures(run),
        augment=augmentation_of(run, config),
        counts=Counter(row["split"] for row in saved_images(run)) if (run / SPLITS).exists() else {},
        trained_on=trained_on(run, config),
        by_the_paper=is_by_the_paper(run),
    )
    return _sealed(model_card(info, str(saved.get("task") or task_name(adapter)), facts))


def is_generated(text: str) -> bool:
    """Whether a card is as `card_of` made it, edited by nobody."""
    found = _SEAL.search(text)
    return found is not None and found.group(1) == _digest(text[: found.start()])


def read_card(path: Path) -> str:
    """The text of a card, whatever bytes somebody put into it.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}). Remove it, or repair it.") from error


def _sealed(text: str) -> str:
    return f"{text}\n<!-- e2vpt {_digest(text)} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
