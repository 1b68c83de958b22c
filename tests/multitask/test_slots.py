"""Rows on the device: found again, written again when others need room, the oldest giving way."""

from __future__ import annotations

import pytest
import torch

from e2vpt.errors import ConfigError
from e2vpt.multitask.slots import Slots
from e2vpt.multitask.values import NOTHING, TaskValues

OWN = {"a.bias": torch.tensor([1.0, 2.0])}


def task(name: str, rows: int = 0) -> TaskValues:
    number = float(sum(name.encode()))
    by_name = {"a.bias": torch.full((2,), number)}
    if rows:
        by_name["table.0"] = torch.full((rows, 2, 1, 1), number)
    return TaskValues(digest=name, by_name=by_name, head=(torch.full((3, 4), number), torch.zeros(3)))


def slots(limit: int = 2) -> Slots:
    return Slots(OWN, torch.zeros(1), limit)


def bias(held: Slots, *tasks: TaskValues) -> list[list[float]]:
    vectors, _ = held.rows(tasks)
    return held.layout.views(vectors, ["a.bias"])["a.bias"].tolist()


def test_rows_are_those_of_their_tasks_while_others_come() -> None:
    held = slots(limit=3)
    a, b, c = task("a"), task("b", rows=2), task("c", rows=3)
    for wanted in ([a], [a, b], [b, a, b], [c, a], [a, b, c]):
        assert bias(held, *wanted) == [w.by_name["a.bias"].tolist() for w in wanted]
    vectors, heads = held.rows([c, NOTHING, b])
    views = held.layout.views(vectors, ["table.0", "a.bias"])
    assert views["a.bias"][1].tolist() == [1.0, 2.0], "the backbone's own"
    assert not views["table.0"][1].any() and views["table.0"][2, 2].sum() == 0
    assert [tuple(weight.shape) for weight, _ in heads] == [(3, 4), (0, 0), (3, 4)]
    assert len(held) == 3 and held.evictions == 0 and "c" in held


def test_the_least_recently_used_gives_way() -> None:
    held = slots(limit=2)
    a, b, c = task("a"), task("b"), task("c")
    held.rows([a, b])
    held.rows([a])
    held.rows([c])
    assert ("a" in held, "b" in held, "c" in held, held.evictions) == (True, False, True, 1)
    assert bias(held, b, c) == [b.by_name["a.bias"].tolist(), c.by_name["a.bias"].tolist()]
    before = held.num_bytes
    for wanted in (a, b, c, a, b):
        held.rows([wanted])
    assert held.num_bytes == before, "rows are used again"


def test_a_dropped_row_is_free() -> None:
    held = slots(limit=2)
    held.rows([task("a"), task("b")])
    held.drop("a")
    held.drop("never there")
    assert len(held) == 1
    assert bias(held, task("c"))[0][0] == ord("c") and held.evictions == 0


def test_heads_give_way_too() -> None:
    """Those of one batch stay, whatever they take: 3 x 4 + 3 numbers each."""
    held = Slots(OWN, torch.zeros(1), 8, max_bytes=4 * 15 * 2)
    for name in "abcd":
        held.rows([task(name)])
    assert len(held) == 2 and held.evictions == 2 and "d" in held and "c" in held
    held.rows([task("a"), task("b"), task("c")])
    assert len(held) == 3 and "d" not in held
    assert (
        Slots(OWN, torch.zeros(1), 8, max_bytes=4 * 2 * 4).last_that_fit([task(n) for n in "abcde"])[0].digest
        == "c"
    )


def test_more_tasks_than_fit_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 tasks in one batch; on_device lets 2 be"):
        slots(limit=2).rows([task("a"), task("b"), task("c")])
