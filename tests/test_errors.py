"""The tree in the docstring is the tree of classes; errors cross process borders whole."""

from __future__ import annotations

import inspect
import pickle

import pytest

from e2vpt import errors
from e2vpt.errors import visible


def drawn_tree() -> dict[str, tuple[str | None, set[str]]]:
    """name -> (parent, builtin bases), read from the module's docstring."""
    found: dict[str, tuple[str | None, set[str]]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        name = words.split()[0] if words.split() else ""
        if not inspect.isclass(getattr(errors, name, None)):
            continue
        depth = (len(words) - len(words.lstrip()) - 4) // 4
        path[depth:] = [name]
        also = line.partition("(also ")[2].rstrip(")")
        found[name] = (path[depth - 1] if depth else None, {also} if also else set())
    return found


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    real = {}
    for name, cls in inspect.getmembers(errors, inspect.isclass):
        if issubclass(cls, Exception):
            bases = [base.__name__ for base in cls.__bases__]
            ours = [base for base in bases if hasattr(errors, base)]
            real[name] = (ours[0] if ours else None, set(bases) - set(ours) - {"Exception"})
    assert drawn_tree() == real


def test_each_error_is_documented_and_pickles() -> None:
    for name in drawn_tree():
        cls = getattr(errors, name)
        assert cls.__doc__ and issubclass(cls, errors.E2VPTError), name
        made = cls({"a.png": "broken"}) if cls is errors.UnreadableImages else cls("what; what to do")
        again = pickle.loads(pickle.dumps(made))
        assert type(again) is cls and str(again) == str(made) and again.args == made.args, name


def test_unreadable_images_names_every_one() -> None:
    problems = {"cats/a.png": "truncated", "dogs/b.jpg": "not an image"}
    error = pickle.loads(pickle.dumps(errors.UnreadableImages(problems)))
    assert error.problems == problems
    for text in (
        "2 unreadable image(s)",
        "cats/a.png: truncated",
        "dogs/b.jpg: not an image",
        "Repair or remove",
    ):
        assert text in str(error)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("caf\u00e9 \u732b \U0001f431 \u200c\u00a0.png", "caf\u00e9 \u732b \U0001f431 \u200c\u00a0.png"),
        ("x\x1b[2J\x07", r"x\x1b[2J\x07"),
        ("a\r\nb\u2028c\x85\x9b", r"a\r\nb\u2028c\x85\x9b"),
        ("\udcff\ud800", r"\xff\ud800"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
    ],
)
def test_names_are_printed_visibly(name: str, shown: str) -> None:
    assert visible(name) == shown
    shown.encode()


def test_every_message_is_safe_to_print() -> None:
    for error in (errors.WeightsError, errors.DataError, errors.MissingExtra):
        assert str(error("x\x1b[2J of\n  \u202epng")) == "x\\x1b[2J of\n  \\u202epng"


def test_an_error_of_a_library_in_one_line() -> None:
    assert errors.in_one_line(ValueError(" first\nsecond")) == "first"
    assert errors.in_one_line(KeyError()) == "KeyError"


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(errors.MissingExtra) as raised, errors.needs("ray", "A cluster needs Ray"):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401
    assert str(raised.value) == (
        "A cluster needs Ray: pip install 'e2vpt[ray]' (No module named 'no_such_package')"
    )
    with pytest.raises(KeyError), errors.needs("ray", "A cluster needs Ray"):
        raise KeyError
