"""Tables as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from e2vpt.errors import visible


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """A line for each row; the first `texts` columns are aligned to the left, the others to the right."""
    first, *others = [f"| {' | '.join(map(visible, cells))} |" for cells in (head, *rows)]
    return [first, "|" + "---|" * texts + "---:|" * (len(head) - texts), *others]


def latex_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A tabular of plain text."""
    first, *others = [" & ".join(map(_escaped, cells)) + r" \\" for cells in (head, *rows)]
    body = "\n".join([first, r"\hline", *others])
    return f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n{body}\n\\end{{tabular}}\n"


def _escaped(text: str) -> str:
    escaped = "".join(f"\\{c}" if c in "_%&#$" else c for c in visible(text))
    return escaped.replace("±", r"$\pm$")
