"""A row for every row, a cell for every column, and nothing that LaTeX would stumble over."""

from __future__ import annotations

from e2vpt.benchmarks.tables import latex_table, markdown_table


def test_markdown() -> None:
    table = markdown_table(["method", "mean", "T"], [["bias", "natural", "1.0"]], texts=2)
    assert table == ["| method | mean | T |", "|---|---|---:|", "| bias | natural | 1.0 |"]
    assert markdown_table(["", "a"], []) == ["|  | a |", "|---|---:|"]


def test_names_are_made_visible() -> None:
    name = "a\x1b[2Jb\nc"
    assert markdown_table([name], [])[0] == r"| a\x1b[2Jb\nc |"
    assert "\x1b" not in latex_table([name], []) and r"\x1b" in latex_table([name], [])


def test_latex() -> None:
    text = latex_table(["method", "tuned, %", "sun_397"], [["e2vpt & co_1", "1 ± 2", "-"]])
    assert text == (
        "\\begin{tabular}{lrr}\n"
        r"method & tuned, \% & sun\_397 \\" + "\n\\hline\n"
        r"e2vpt \& co\_1 & 1 $\pm$ 2 & - \\" + "\n\\end{tabular}\n"
    )
