"""What a person reads while waiting."""

from __future__ import annotations

import pytest

from e2vpt.runs.progress import duration, image_check, left_out_text, percent, reported
from e2vpt.training.step_report import StepReport

REPORT = StepReport(
    epoch=2,
    epochs=4,
    step=3,
    steps=10,
    loss=0.1234,
    accuracy=0.9,
    images_per_second=87.6,
    seconds_left=185,
    memory=3 * 2**29,
)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7799, "2 h 09 min")]
)
def test_durations_read_like_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_epoch_lines_are_printed_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"epoch": 1, "lr": 0.1, "train_loss": 1.5, "train_accuracy": 0.25}
    with reported() as reporting:
        assert reporting.on_step is not None and reporting.on_epoch is not None
        reporting.on_step(REPORT)
        reporting.on_epoch(row)
        reporting.on_epoch(row | {"epoch": 2, "val_loss": 0.5, "val_accuracy": 0.75})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "epoch   1  train loss 1.500  accuracy 25.0%"
    assert lines[1] == "epoch   2  train loss 1.500  accuracy 25.0%  |  val loss 0.500  accuracy 75.0%"


def test_the_bar_shows_epoch_figures_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    screen = io.StringIO()
    monkeypatch.setattr("e2vpt.runs.progress.console", Console(file=screen, force_terminal=True, width=140))
    with reported() as reporting:
        assert reporting.on_step is not None
        reporting.on_step(REPORT)
    shown = screen.getvalue()
    for part in ("Epoch 2/4", "loss 0.123", "accuracy 90.0%", "88 images/s", "1.5 GiB", "3 min 05 s left"):
        assert part in shown, part
    with image_check("Reading images") as update:
        update(3, 7)
    assert "3/7" in screen.getvalue() and "None" not in screen.getvalue()
    with reported() as reporting:
        assert reporting.on_images is not None
        reporting.on_images(2, 9)
    assert "Scoring" in screen.getvalue() and "2/9 images" in screen.getvalue()


def test_an_accuracy_has_one_form() -> None:
    assert [percent(share) for share in (0, 0.5, 0.9126, 1)] == ["0.0%", "50.0%", "91.3%", "100.0%"]


def test_what_was_left_out_is_listed_and_counted() -> None:
    text = left_out_text({f"{i}\n.png": "cut" for i in range(30)})
    assert text.startswith("30 unreadable image(s) left out:\n  0\\n.png: cut\n")
    assert text.endswith("\n  and 10 more") and len(text.splitlines()) == 22
