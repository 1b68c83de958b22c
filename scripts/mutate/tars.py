"""Archives: read as a task, against Python's own reading of the same archive."""

from __future__ import annotations

import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from random import Random

import e2vpt
from scripts.mutate.tar_files import MAKERS, entries_of
from scripts.mutate.watch import Case, Make, read_task


def prepare(folder: Path) -> Make:
    """Cases of one archive each, read as `e2vpt train` reads it; some are trained on."""
    folder.mkdir(exist_ok=True)

    def make(random: Random, place: Path) -> Case:
        entries = entries_of(random)
        maker = random.choice(MAKERS)
        path = place / random.choice(["a.tar", "a.tar", "a.TAR", "\u00e9 b.tar"])
        path.write_bytes(maker(entries, random))
        trains = random.random() < 0.1

        def run() -> e2vpt.Task:
            return read_task(path, place / "run" if trains else None)

        def check(task: e2vpt.Task) -> str:
            return _wrong(path, task)

        name = (maker.__doc__ or "").splitlines()[0] + (" trained on" if trains else "")
        return Case(name=name, run=run, check=check, mentions=(path.name, path.stem))

    return make


def _wrong(path: Path, task: e2vpt.Task) -> str:
    found = Counter(
        (which, task.classes[label], image.read())  # type: ignore[attr-defined]
        for which, split in task.splits().items()
        for image, label in zip(split.images, split.labels, strict=True)
    )
    wanted, has_splits = _read(path)
    if not has_splits:
        found = Counter({(name, data): n for (_, name, data), n in _without_split(found).items()})
        wanted = _without_split_of(wanted)
    elif not any(which == "val" for which, *_ in wanted):
        found = _as_train(found)
    if found != wanted:
        more = [key[:-1] for key in (found - wanted)][:4], [key[:-1] for key in (wanted - found)][:4]
        return f"{sum(found.values())} images for {sum(wanted.values())}: more {more[0]}, missing {more[1]}"
    return ""


def _without_split(found: Counter[tuple[str, str, bytes]]) -> Counter[tuple[str, str, bytes]]:
    return Counter(("", name, data) for _, name, data in found.elements())


def _without_split_of(wanted: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    return Counter((name, data) for _, name, data in wanted.elements())


def _as_train(found: Counter[tuple[str, str, bytes]]) -> Counter[tuple[str, str, bytes]]:
    return Counter(("train" if w == "val" else w, name, data) for w, name, data in found.elements())


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of an archive, as Python's own readers have it."""
    start = path.read_bytes()[:2]
    if start == b"PK":
        with zipfile.ZipFile(path) as packed:
            yield from ((name, packed.read(name)) for name in packed.namelist() if not name.endswith("/"))
        return
    with tarfile.open(path, "r:gz" if start == b"\x1f\x8b" else "r:") as tar:
        for member in tar.getmembers():
            if not member.isdir():
                data = tar.extractfile(member)
                assert data is not None, f"{member.name} was taken"
                yield member.name, data.read()


def _read(path: Path) -> tuple[Counter[tuple[str, ...]], bool]:
    """(split, class, bytes) of every picture, as tarfile reads the archive; the later of two."""
    files: dict[tuple[str, ...], bytes] = {}
    for name, content in _members(path):
        parts = tuple(p for p in PurePosixPath(name).parts if p not in ("/", "//", "."))
        if parts and not any(
            p.startswith(".") or p.lower() in ("__macosx", "@eadir", "thumbs.db") for p in parts
        ):
            assert ".." not in parts, f"{name} was taken"
            files[parts] = content
    tops = {parts[0] for parts in files}
    while len(tops) == 1 and not tops & {"train"} and all(len(parts) > 2 for parts in files):
        files = {parts[1:]: data for parts, data in files.items()}
        tops = {parts[0] for parts in files}
    images = {p: d for p, d in files.items() if len(p) > 1}
    if "train" in tops:
        import unicodedata

        return Counter((p[0], unicodedata.normalize("NFC", p[1]), d) for p, d in images.items()), True
    import unicodedata

    return Counter(("", unicodedata.normalize("NFC", p[0]), d) for p, d in images.items()), False
