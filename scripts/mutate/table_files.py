"""CSV files of every kind as bytes, beside the pictures that they name."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image

Rows = list[list[str]]


def rows_of(random: Random, place: Path) -> tuple[list[str], Rows]:
    (place / "pics").mkdir()
    rows = []
    split = random.random() < 0.4
    for label in random.choice([("cat", "dog", "owl"), ("1", "2", "10"), ("é", "ß", "\u4f60")]):
        for index in range(5):
            name = f"pics/{label}{index}.png"
            Image.new("RGB", (8, 8), random.getrandbits(24)).save(place / name)
            rows.append(
                [name, label] + ([["train", "train", "train", "val", "test"][index]] if split else [])
            )
    return ["path", "label"] + (["split"] if split else []), rows


def _text(header: list[str], rows: Rows, **dialect: object) -> str:
    out = io.StringIO()
    csv.writer(out, **{"lineterminator": "\n", **dialect}).writerows([header, *rows])  # type: ignore[arg-type]
    return out.getvalue()


def whole(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """A whole file in one of the dialects of CSV"""
    text = _text(
        header,
        rows,
        lineterminator=random.choice(["\n", "\r\n", "\r"]),
        quoting=random.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    )
    return random.choice(
        [text, "\ufeff" + text, text.replace("\n", "\n\n"), text + "\n\n \n", text.rstrip()]
    ).encode()


def encoded(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Another encoding, two byte order marks, bytes of none"""
    text = _text(header, [[row[0], "é" + row[1], *row[2:]] for row in rows])
    encoding = random.choice(
        ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp1251", "utf-7", "utf-8"]
    )
    data = text.encode(encoding, errors="replace")
    return random.choice([data, data, b"\xef\xbb\xbf" * 2 + text.encode(), text.encode() + b"\xff\xfe\n"])


def separated(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Other separators, blanks around them, cells too many or too few"""
    way = random.choice([";", "\t", "|", "more", "less", "blanks", "comment", "blank header"])
    if len(way) == 1:
        return _text(header, rows, delimiter=way).encode()
    at = random.randrange(len(rows))
    if way == "more":
        rows[at] = [*rows[at], random.choice(["x", "", " "])]
    elif way == "less":
        rows[at] = rows[at][:1]
    elif way == "blanks":
        rows = [[f"  {cell} " for cell in row] for row in rows]
    elif way == "comment":
        rows.insert(at, ["# a note"])
    else:
        header = random.choice(
            [[f" {name} " for name in header], [n.upper() for n in header], ["Path ", " LABEL"]]
        )
    return _text(header, rows).encode()


def quoted(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Quotes that do not close, or close early; NUL; line breaks in cells"""
    lines = _text(header, rows).splitlines()
    at = random.randrange(1, len(lines))
    lines[at] = random.choice(
        [
            *(
                '"' + lines[at],
                lines[at] + '"',
                lines[at].replace(",", '",', 1),
                f'"{lines[at]}"',
                "\0" + lines[at],
            ),
            *(
                lines[at].replace(",", ',"', 1),
                lines[at][:3] + "\0" + lines[at][3:],
                lines[at] + "\\",
                "\x1a",
            ),
            *(
                '"pics/a\nb.png",cat',
                lines[at].replace(",", ',"c""a') + '"',
                lines[at] + "\x0b",
                lines[at] + "\u2028",
            ),
        ]
    )
    return "\n".join(lines).encode()


def columns(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Columns twice, missing, in another order, of other names, with class names"""
    way = random.choice(
        ["twice", "twice, other", "missing", "order", "names", "class", "index", "header twice"]
    )
    if way.startswith("twice"):
        header = [*header, random.choice(["label", "Label ", "path", "LABEL"])]
        rows = [[*row, row[1] if way == "twice" else random.choice(["a", "b"])] for row in rows]
    elif way == "missing":
        header = ["file", *header[1:]]
    elif way == "order":
        header, rows = header[::-1], [row[::-1] for row in rows]
    elif way == "names":
        header = random.choice([["image", "label"], ["path", "labels"], [], [""], ["path"], ["path,label"]])
    elif way == "class":
        header = [*header, "class"]
        rows = [
            [*row, f"class {row[1]}" if random.random() < 0.97 else random.choice(["", "z"])] for row in rows
        ]
    elif way == "index":
        header, rows = ["", "note", *header], [[str(n), "=1+1", *row] for n, row in enumerate(rows)]
    else:
        rows.insert(4, header)
    return _text(header, rows).encode()


def labels(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Labels that are long, odd numbers, two spellings of one, or do not print"""
    at = random.randrange(len(rows))
    odd = [
        "9" * 5000,
        "007",
        "1.0",
        "-1",
        "²",
        "\u0663",
        "1e3",
        " ",
        "\u00a0",
        "\x1b[31m",
        "a\u202eb",
        "x" * 600,
        "None",
    ]
    odd += [
        "cafe\u0301",
        "\ud7ff",
        "\U0001f600",
        "\u200b",
        "\ufeff",
        "CAT",
        "NaN",
        "=cmd()",
        "a\tb",
        "0",
        "00",
    ]
    chosen = random.choice(odd)
    for index in (
        range(len(rows)) if random.random() < 0.3 else [at, (at + 1) % len(rows), (at + 2) % len(rows)]
    ):
        if rows[index][2:] != ["test"] or random.random() < 0.5:
            rows[index][1] = (
                chosen
                if random.random() < 0.7
                else random.choice(["1", "10", "caf\u00e9", "cat", "9" * 4999])
            )
    return _text(header, rows).encode()


def paths(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Paths of every kind: out of the folder, links, pipes, devices, long, twice"""
    at = random.randrange(len(rows))
    os.mkfifo(place / "pics/pipe.png")
    (place / "pics/loop.png").symlink_to("loop.png")
    (place / "pics/zero.png").symlink_to("/dev/zero")
    (place / "pics/link.png").symlink_to(place / rows[0][0])
    (place / "pics/bad.png").write_bytes(b"no picture")
    (place / "cafe\u0301.png").write_bytes((place / rows[0][0]).read_bytes())
    rows[at][0] = random.choice(
        [
            *(
                "pics/pipe.png",
                "pics/loop.png",
                "pics/zero.png",
                "pics/link.png",
                "pics/bad.png",
                "/dev/stdin",
                "",
            ),
            *(
                str(place / rows[at][0]),
                f"./{rows[at][0]}",
                f"pics/../{rows[at][0]}",
                f"pics//{rows[at][0][5:]}",
            ),
            *(
                "x" * 300 + ".png",
                "a/" * 3000 + "x.png",
                "pics",
                "/etc/passwd",
                "~/x.png",
                "file:///etc/passwd",
            ),
            *(
                "cafe\u0301.png",
                "caf\u00e9.png",
                rows[at][0].replace("/", "\\"),
                rows[at][0].upper(),
                "..",
                "/",
                ".",
            ),
            *(
                rows[at - 1][0],
                f"../{place.name}/{rows[at - 1][0]}",
                "pics/\x1b[2J.png",
                "http://x/y.png",
                "C:\\x.png",
            ),
        ]
    )
    return _text(header, rows).encode()


def splits(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Splits of other names, without train, unknown, empty"""
    names = random.choice(
        [
            *(
                ["Training", "TEST"],
                ["train", "valid"],
                ["train ", " val"],
                ["train", ""],
                ["train", "dev"],
                ["test"],
            ),
            *(
                ["train", "train_images"],
                ["0", "1"],
                ["val"],
                ["train", "unlabelled"],
                ["train", "validation", "test"],
            ),
        ]
    )
    rows = [[row[0], row[1], names[n % len(names)]] for n, row in enumerate(rows)]
    return _text(["path", "label", "split"], rows).encode()


def large(header: list[str], rows: Rows, random: Random, place: Path) -> bytes:
    """Thousands of missing files, huge cells, a million empty lines, thousands of columns"""
    way = random.choice(["missing", "cell", "lines", "columns", "one line", "many"])
    if way == "missing":
        rows = [[f"no/{n}.png", "cat", *rows[0][2:]] for n in range(3000)]
    elif way == "cell":
        rows[3][1] = "x" * random.choice([131_000, 132_000, 9_000_000])
    elif way == "lines":
        return _text(header, rows).encode() + b"\n" * 1_000_000
    elif way == "columns":
        return _text([*header, *map(str, range(20_000))], [[*row, *[""] * 20_000] for row in rows]).encode()
    elif way == "one line":
        return b"path,label\n" + b"x" * 30_000_000
    else:
        rows = rows + [[rows[0][0], "cat", *rows[0][2:]]] * 40_000
    return _text(header, rows).encode()


MAKERS: tuple[Callable[[list[str], Rows, Random, Path], bytes], ...] = (
    *(whole, whole, encoded, separated, quoted, columns, labels, labels, paths, paths, paths, splits, large),
)
