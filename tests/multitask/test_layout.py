"""A task's values as one vector: everything comes back, in a layout that has room for others too."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from e2vpt.multitask.layout import VectorLayout, num_rows

OWN = {"a.bias": torch.tensor([7.0, 8.0, 9.0]), "b.weight": torch.tensor([5.0])}


def values(seed: int, rows: int, names: tuple[str, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {"a.bias": torch.randn(3, generator=generator), "b.weight": torch.randn(1, generator=generator)}
    made |= {"a.scale": torch.randn(3, generator=generator)}
    found = {name: made[name] for name in names}
    if rows:
        found["table.0"] = torch.randn(rows, 2, 1, 2, generator=generator)
    return found


NAMES = st.lists(st.sampled_from(["a.bias", "b.weight", "a.scale"]), unique=True).map(tuple)


@given(st.lists(st.tuples(st.integers(0, 4), NAMES), min_size=1, max_size=4))
def test_what_goes_in_comes_out_and_the_rest_is_the_backbones(
    tasks: list[tuple[int, tuple[str, ...]]],
) -> None:
    made = [values(seed, rows, names) for seed, (rows, names) in enumerate(tasks)]
    layout = VectorLayout({})
    for task in made:
        layout = layout.joined(VectorLayout.of(task))
    assert all(layout.holds(VectorLayout.of(task)) for task in made)
    vectors = torch.stack([layout.vector(task, OWN) for task in made])
    assert vectors.shape == (len(made), layout.size)
    views = layout.views(vectors, layout.shapes)
    for index, task in enumerate(made):
        for name, view in views.items():
            if name == "table.0":
                count = num_rows(task, 0)
                assert not view[index, count:].any()
                assert count == 0 or torch.equal(view[index, :count], task[name])
            else:
                expected = task.get(name, OWN.get(name, torch.ones(3)))
                assert torch.equal(view[index], expected)


def test_a_layout_without_room_is_told_apart() -> None:
    small, large = (VectorLayout.of(values(0, rows, ("a.bias",))) for rows in (1, 3))
    assert large.holds(small) and not small.holds(large)
    assert not large.holds(VectorLayout.of(values(0, 1, ("b.weight",))))
    assert num_rows(values(0, 3, ()), 0) == 3 and num_rows({}, 0) == 0
