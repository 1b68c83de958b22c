"""What a run found out of the augmentation that its task bears: RUN/augmentation.json."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from e2vpt.data.transforms import Augment
from e2vpt.errors import RunError
from e2vpt.files.atomic import write_atomic
from e2vpt.files.paths import look_at
from e2vpt.runs.folders.folder import read_config
from e2vpt.runs.folders.run_config import RunConfig

AUGMENTATION = "augmentation.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Borne:
    """Accuracy on validation images as they are, mirrored, and moved aside; and what follows.

    Attributes:
        plain, mirrored, shifted: 0 to 1; None where there are no validation images.
        augment: the augmentation to go on with.
    """

    plain: float | None
    mirrored: float | None
    shifted: float | None
    augment: Augment

    def __str__(self) -> str:
        if self.plain is None:
            return (
                "No validation images to choose an augmentation by, so there is none. "
                "Give one: 'crop-flip' for photographs, 'shift' for what must not be mirrored"
            )
        assert self.mirrored is not None and self.shifted is not None
        return (
            f"Validation accuracy {self.plain:.1%}, of mirrored images {self.mirrored:.1%}, of shifted ones "
            f"{self.shifted:.1%}: training goes on with augmentation {self.augment!r}"
        )


def augmentation_of(run: Path, config: RunConfig) -> str:
    """The augmentation that a run was trained with in the end.

    Raises:
        RunError: the run's answer cannot be read.
    """
    path = run / AUGMENTATION
    found = read_config(path) if look_at(path) != "nothing" else {}
    return str(found.get("augment", config.data.augment_at_first))


def write_borne(run: Path, found: Borne) -> None:
    """Keep the answer, so that the run does not ask again."""
    write_atomic(run / AUGMENTATION, json.dumps(dataclasses.asdict(found), indent=1).encode())


def read_borne(run: Path) -> Borne | None:
    """The answer that a run wrote; None where it has not asked yet.

    Raises:
        RunError: it cannot be read.
    """
    path = run / AUGMENTATION
    if not path.exists():
        return None
    try:
        found = Borne(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{path} cannot be read: {error}. Remove it, and the run asks its model again."
        ) from error
    if found.augment not in get_args(Augment):
        raise RunError(f"{path} says augment {found.augment!r}. Remove it, and the run asks its model again.")
    return found
