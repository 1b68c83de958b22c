"""Archives of every kind as bytes: odd members, odd headers, damaged."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from random import Random

from PIL import Image

Entry = tuple[bytes, bytes]
_BLOCK = 512


def entries_of(random: Random) -> list[Entry]:
    """Pictures of three classes, each of its own colour."""
    made = []
    tops = random.choice(
        [("",), ("",), ("pets/",), ("./",), ("train/", "test/"), ("train/", "val/", "test/")]
    )
    for top in tops:
        for name in ("cat", "dog", "owl"):
            for index in range(random.choice([4, 5])):
                out = io.BytesIO()
                Image.new("RGB", (8, 8), random.getrandbits(24)).save(out, "png")
                made.append((f"{top}{name}/{index}.png".encode(), out.getvalue()))
    return made


def _header(name: bytes, size: int, kind: bytes = b"0", link: bytes = b"", size_field: bytes = b"") -> bytes:
    fields = name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
    fields += size_field.ljust(12, b"\0")[:12] if size_field else b"%011o\0" % size
    fields += b"00000000000\0" + b" " * 8 + kind + link[:100].ljust(100, b"\0") + b"ustar\x0000"
    fields = fields.ljust(_BLOCK, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _block(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)


def _plain(entries: list[Entry], odd: bytes = b"", at: int = 3, end: bytes = bytes(1024)) -> bytes:
    parts = [_header(name, len(data)) + _block(data) for name, data in entries]
    return b"".join([*parts[:at], odd, *parts[at:], end])


def whole(entries: list[Entry], random: Random) -> bytes:
    """A whole archive in one of tarfile's formats"""
    out = io.BytesIO()
    kind = random.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=out, mode="w:", format=kind) as tar:
        for name, data in entries:
            long = "x" * random.choice([1, 1, 90, 120]) + "/" if random.random() < 0.2 else ""
            first, _, last = name.decode().rpartition("/")
            accent = random.choice(["", "é", "n\u0303"])
            info = tarfile.TarInfo(f"{first}/{long}{accent}{last}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def linked(entries: list[Entry], random: Random) -> bytes:
    """Hard and symbolic links: to members, to later ones, to themselves, out of it"""
    target = random.choice(
        [entries[0][0], entries[-1][0], b"/etc/passwd", b"../../x.png", b"cat/9.png", b"missing"]
    )
    return _plain(
        entries, _header(b"cat/9.png", 0, random.choice([b"1", b"2"]), target), random.choice([0, 3, 99])
    )


def linked_often(entries: list[Entry], random: Random) -> bytes:
    """Hard links to hard links, some after the name was given again"""
    odd = b"".join(_header(b"cat/l%d.png" % n, 0, b"1", b"cat/l%d.png" % (n - 1)) for n in range(1, 6))
    first = _header(b"cat/l0.png", len(entries[0][1])) + _block(entries[0][1])
    again = _header(b"cat/l0.png", len(entries[1][1])) + _block(entries[1][1])
    return _plain(entries, first + odd + (again if random.random() < 0.5 else b""))


def special(entries: list[Entry], random: Random) -> bytes:
    """Devices, pipes, folders with sizes, unknown types"""
    kind = random.choice([b"3", b"4", b"5", b"6", b"7", b"A", b"S", b"V", b"M", b"D", b"\0", b"\xff"])
    size = random.choice([0, 0, 512, 700])
    return _plain(entries, _header(b"cat/8.png", size, kind) + _block(bytes(size)))


def sizes(entries: list[Entry], random: Random) -> bytes:
    """Sizes that are negative, huge, in base 256, in no number at all"""
    field = random.choice(
        [
            *(
                b"-0000000001\0",
                b"77777777777\0",
                b"\x80" + (5).to_bytes(11, "big"),
                b"\xff" * 12,
                b"00000001000 ",
            ),
            *(
                b"\xff" * 10 + b"\xfe\0",
                b"\x80" + (2**62).to_bytes(11, "big"),
                b"abc",
                b"0x10",
                b" 1 2 ",
                b"9999",
            ),
            *(
                b"\xff" + (2**88 - 1024).to_bytes(11, "big"),
                b"+0000000010\0",
                b"1_0\0",
                b"\x80" + b"\xff" * 11,
            ),
        ]
    )
    name, kind = (
        random.choice([b"cat/8.png", b"x"]),
        random.choice([b"0", b"0", b"L", b"x", b"g", b"K", b"5"]),
    )
    return _plain(entries, _header(name, 0, kind, size_field=field) + _block(bytes(40)))


def pax(entries: list[Entry], random: Random) -> bytes:
    """Extended headers: paths, sizes, sparse maps, encodings, damaged records, global ones"""
    records = random.choice(
        [
            *(
                b"path=dog/new.png",
                b"path=../../out.png",
                b"path=/abs/x.png",
                b"size=1000000000000",
                b"size=-5",
            ),
            *(b"path=dog/\xff\xfe.png", b"path=a\0b.png", b"size=0", b"linkpath=/etc/passwd", b"path="),
            *(
                b"GNU.sparse.map=0,99999999999",
                b"GNU.sparse.realsize=99999999",
                b"hdrcharset=BINARY",
                b"mtime=nan",
            ),
            *(
                b"GNU.sparse.major=1\n30 GNU.sparse.minor=0",
                b"GNU.sparse.name=dog/s.png",
                b"size=1e3",
                b"uid=x",
            ),
        ]
    )
    record = b"%d " % (len(records) + 4) + records + b"\n"
    record = b"%d " % len(record) + records + b"\n"
    if random.random() < 0.2:
        record = random.choice(
            [b"0 a=b\n", b"99999 path=x\n", b"-3 a=b\n", b"path=x\n", b"", b"\0" * 40, record[:-1]]
        )
    kind = random.choice([b"x", b"x", b"g", b"X"])
    odd = _header(b"pax", len(record), kind) + _block(record)
    odd += _header(b"cat/7.png", len(entries[0][1])) + _block(entries[0][1])
    return _plain(entries, odd)


def sparse(entries: list[Entry], random: Random) -> bytes:
    """An old GNU sparse file that says it is large"""
    header = bytearray(_header(b"cat/s.png", 512, b"S"))
    header[257:265] = b"ustar  \0"
    header[386:410] = b"%011o\0%011o\0" % (0, 512)
    header[482] = random.choice([0, 1])
    header[483:495] = b"%011o\0" % random.choice([512, 20 * 2**30, 8**11 - 1])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return _plain(entries, bytes(header) + bytes(512))


def twice(entries: list[Entry], random: Random) -> bytes:
    """A path given twice, in one spelling or two; a file that is a folder too"""
    name, _ = random.choice(entries)
    other = random.choice(
        [name, b"./" + name, name.replace(b"/", b"//"), b"/" + name, name + b"/x.png", name.upper()]
    )
    more = random.choice(entries)[1]
    return _plain(entries, _header(other, len(more)) + _block(more), random.choice([0, 99]))


def paths(entries: list[Entry], random: Random) -> bytes:
    """Paths that lead out, names that do not print, are no UTF-8, belong to a system"""
    name = random.choice(
        [
            *(
                b"../x.png",
                b"cat/../../x.png",
                b"/cat/z.png",
                b"cat/./z.png",
                b"cat\\z.png",
                b"C:\\z.png",
                b".hidden.png",
            ),
            *(b"__MACOSX/cat/._0.png", b"cat/._0.png", b"cat/Thumbs.db", b"cat/.DS_Store", b"@eaDir/x.png"),
            *(
                b"cat/\xff\xfe.png",
                b"c\xffat/z.png",
                b"cat/\x1b[2J.png",
                b"cat/a\nb.png",
                b"\xe2\x80\xaedog/z.png",
                b"",
            ),
            *(
                b"cat/" + b"x" * 96,
                b"z.png",
                b"cat/z.txt",
                b"cat/z.heic",
                b"cafe\xcc\x81/z.png",
                b"caf\xc3\xa9/z.png",
            ),
            *(
                b"training/cat/z.png",
                b"test/cat/z.png",
                b"a/b/c/d/e/f/g/h/z.png",
                b"cat",
                b"cat/",
                b"CAT/z.png",
                b".",
            ),
            *(
                b"cat/train/z.png",
                b".git/x.png",
                b".ipynb_checkpoints/z.png",
                b"__macosx/z.png",
                b"cat /z.png",
            ),
        ]
    )
    return _plain(
        entries, _header(name, len(entries[0][1])) + _block(entries[0][1]), random.choice([0, 5, 99])
    )


def cut(entries: list[Entry], random: Random) -> bytes:
    """Cut off anywhere, or without its end, or with an end too many"""
    made = _plain(
        entries, end=random.choice([b"", bytes(512), bytes(1024), bytes(10240), random.randbytes(512)])
    )
    way = random.random()
    if way < 0.6:
        return made[: random.randrange(len(made))]
    return made if way < 0.8 else made + _plain(entries[:2])


def bits(entries: list[Entry], random: Random) -> bytes:
    """Bytes changed anywhere, most of them in headers"""
    made = bytearray(_plain(entries))
    for _ in range(random.choice([1, 2, 6])):
        at = random.randrange(len(made)) // 1024 * 1024 + random.randrange(300)
        made[at % len(made)] = random.choice([0, 32, 48, 255, random.randrange(256)])
    return bytes(made)


def long_names(entries: list[Entry], random: Random) -> bytes:
    """GNU long names: right, huge, without end, one after the other"""
    name = random.choice(
        [b"cat/" + b"n" * 200 + b".png", b"cat/" + b"d/" * 3000 + b"z.png", b"x" * 2_000_000, b"", b"a\0b"]
    )
    odd = (
        _header(b"././@LongLink", len(name), random.choice([b"L", b"L", b"K"])) + _block(name)
    ) * random.choice([1, 1, 400])
    return _plain(entries, odd + _header(b"cat/short.png", len(entries[0][1])) + _block(entries[0][1]))


def others(entries: list[Entry], random: Random) -> bytes:
    """Compressed, empty, another file under the name of an archive, archives in archives"""
    import bz2
    import gzip

    made = _plain(entries)
    way = random.randrange(6)
    if way == 0:
        return random.choice([gzip.compress, bz2.compress])(made)
    if way < 3:
        return random.choice(
            [b"", bytes(10240), bytes(512), b"PK\x03\x04" + bytes(99), b"hello", entries[0][1]]
        )
    if way == 3:
        return _plain([(b"cat/inner.tar", made), *entries])
    if way == 4:
        return _plain(entries[:1]) if random.random() < 0.5 else _plain(entries[:4])
    return _plain([*entries, (b"dog/empty.png", b""), (b"dog/bad.png", entries[0][1][:50])])


MAKERS: tuple[Callable[[list[Entry], Random], bytes], ...] = (
    *(whole, whole, linked, linked_often, special, sizes, pax, sparse, twice, paths, paths, cut, bits, bits),
    *(long_names, others),
)
