"""The plain backbone of an adapter: in its bundle, by the name in it, or by one that somebody gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from e2vpt.adapters.bundles import Bundled, missing_numbers
from e2vpt.adapters.info import AdapterInfo
from e2vpt.adapters.reading import Stored
from e2vpt.backbones.load import backbone_from, load_backbone, planned_backbone
from e2vpt.errors import AdapterFormatError, BackboneError, BackboneMismatch
from e2vpt.files.hub import ON_THE_HUB


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChosenBackbone:
    """Where a backbone comes from, and for which image size.

    Attributes:
        path: the adapter file.
        name: what `load_backbone` builds it by.
        image_size: side in pixels.
        weights: a file of its weights; None for a download.
        bundled: the backbone in the file; None where it comes from elsewhere.
    """

    path: str | Path
    name: str
    image_size: int
    weights: str | Path | None
    bundled: Bundled | None

    def planned(self, num_classes: int) -> nn.Module:
        """The backbone without memory: what a file is held to before any is spent.

        Raises:
            BackboneError: it cannot be made.
            AdapterFormatError: the bundle holds less than it.
        """
        try:
            model = planned_backbone(self.name, num_classes=num_classes, image_size=self.image_size)
        except BackboneError as error:  # the file is what asked for it
            raise type(error)(f"{self.path} was made for {self.name}: {error}") from error
        missing = 0 if self.bundled is None else missing_numbers(self.bundled, model)
        if missing > 0:
            raise AdapterFormatError(
                f"{self.path} lacks {missing} of the numbers of its backbone {self.name}. Get another copy "
                "of the file, or give the weights: weights=FILE, on the command line --weights FILE."
            )
        return model

    def loaded(self, num_classes: int) -> nn.Module:
        """The backbone with its weights; call `planned` first.

        Raises:
            WeightsError, BackboneError: as `load_backbone`.
        """
        if self.bundled is None:
            return load_backbone(
                self.name, num_classes=num_classes, image_size=self.image_size, weights=self.weights
            )
        return backbone_from(
            self.bundled.weights,
            self.path,
            self.name,
            num_classes=num_classes,
            image_size=self.image_size,
        )


def choose_backbone(
    path: str | Path, stored: Stored, name: str | None = None, weights: str | Path | None = None
) -> ChosenBackbone:
    """The backbone of what lies in an adapter file, unless a name or weights say otherwise.

    Raises:
        BackboneMismatch: the file names none, or one that it must not choose.
    """
    bundled = stored.bundled if weights is None else None
    return ChosenBackbone(
        path=path,
        name=_name(path, stored.info, bundled.name if bundled is not None and name is None else name),
        image_size=stored.info.preprocessing.image_size[0],
        weights=weights,
        bundled=bundled,
    )


def _name(path: str | Path, info: AdapterInfo, name: str | None) -> str:
    strangers = info.backbone.startswith(ON_THE_HUB) and not info.backbone.startswith(f"{ON_THE_HUB}timm/")
    if not name and strangers:
        raise BackboneMismatch(
            f"{path} was made on {info.backbone}; a file does not choose what is downloaded from the hub. "
            f"If you trust that repository: load_adapter(path, backbone={info.backbone!r})."
        )
    name = name or info.backbone
    if not name:
        raise BackboneMismatch(
            f"{path} was made on a backbone without a timm name; pass that backbone: "
            "load_adapter(path, backbone=...)."
        )
    return name
