"""Each pruning that is trained again has a folder of its own."""

from __future__ import annotations

from e2vpt.runs.folders.tried import Tried
from e2vpt.runs.retraining import folder_names


def tried(tokens: float, segments: float) -> Tried:
    return Tried(
        stage="trial",
        tokens=tokens,
        segments=segments,
        kept=tokens * segments,
        num_tuned=1,
        bytes=1,
        epochs=0,
        accuracy=0.5,
        loss=0.5,
    )


def test_shares_that_agree_to_three_digits_have_folders_of_their_own() -> None:
    rows = [tried(0.5, 0.5001), tried(0.5, 0.5004), tried(0.75, 2 / 3)]
    assert folder_names(rows) == ["0.5-0.5001", "0.5-0.5004", "0.750-0.667"]
