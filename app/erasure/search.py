"""A search of every file below a folder for a text: raw bytes, and what is compressed."""

from __future__ import annotations

import gzip
import mmap
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SHORTEST = 12
"""Bytes of a text below which it is likely to be met by chance."""


@dataclass(frozen=True, slots=True)
class Searched:
    """How much was searched, where something was found, and what could not be read."""

    files: int
    bytes: int
    found: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Needles:
    """What can be searched for without meeting it by chance: texts, and bytes as they are.

    A part of a key of several parts may well be somewhere, in the keys of others: of such a key
    only the bytes are searched for that stores have for the whole of it.
    """

    texts: tuple[str, ...] = ()
    raw: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, values: Sequence[Any], key: bytes) -> Needles:
        """Those of a key; none for one without a text that is long enough."""
        texts = tuple(v for v in values if isinstance(v, str) and len(v.encode()) >= SHORTEST)
        if len(values) == 1 or not texts:
            return cls(texts)
        return cls((), (key,))

    def __bool__(self) -> bool:
        return bool(self.texts or self.raw)


def search(root: Path, wanted: Needles, told: Callable[[int, int], None]) -> Searched:
    """Looks in the names and contents of all files below a folder."""
    texts = wanted.texts
    paths = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    found, unreadable, size = [], [], 0
    forms = list(dict.fromkeys([*wanted.raw, *(form for text in texts for form in _forms(text))]))
    for number, path in enumerate(paths):
        name, shown = _shown(path.relative_to(root), texts)
        told(number, len(paths))
        try:
            size += path.stat().st_size
            if shown != name or _holds(path, forms, texts):
                found.append(shown)
        except FileNotFoundError:
            continue
        except (
            OSError,
            pa.ArrowException,
            sqlite3.Error,
            zlib.error,
            EOFError,
            zipfile.BadZipFile,
        ) as error:
            unreadable.append(f"{shown}: {type(error).__name__}")
    return Searched(len(paths), size, tuple(found), tuple(unreadable))


def _shown(path: Path, texts: Sequence[str]) -> tuple[str, str]:
    """A file's name, and how it can be told without what is searched for."""
    name = shown = str(path)
    for text in texts:
        shown = shown.replace(text, "<key>")
    return name, shown


def _forms(text: str) -> list[bytes]:
    """The bytes that a text may have: UTF-8, and inside JSON in its two spellings."""
    plain = text.encode()
    escaped = text.encode("ascii", "backslashreplace")
    return [plain, orjson.dumps(text)[1:-1], escaped]


def _holds(path: Path, forms: Sequence[bytes], texts: Sequence[str]) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if any(data.find(form) >= 0 for form in forms):
            return True
        magic = data[:4]
        if magic == b"PAR1":
            return _holds_rows(path, texts)
        unpack = _UNPACKED.get(magic) or _UNPACKED.get(magic[:2])
        return unpack is not None and any(
            part.find(form) >= 0 for part in unpack(path, data) for form in forms
        )


def _holds_rows(path: Path, texts: Sequence[str]) -> bool:
    with pq.ParquetFile(path) as file:
        return any(
            pc.any(pc.match_substring(leaf, text)).as_py()
            for batch in file.iter_batches()
            for column in batch.columns
            for leaf in _leaves(column)
            for text in texts
        )


def _leaves(array: Any) -> Iterator[Any]:
    """The arrays of text or bytes inside an array."""
    kind = array.type
    if pa.types.is_map(kind):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(array.flatten())
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _leaves(part)
    elif pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary)
    elif any(is_text(kind) for is_text in _TEXTUAL):
        yield array


_TEXTUAL = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


def _gunzipped(path: Path, data: Any) -> Iterator[bytes]:
    with gzip.open(path) as file:
        yield file.read()


def _unzipped(path: Path, data: Any) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield archive.read(name)


def _rows(path: Path, data: Any) -> Iterator[bytes]:
    """The values of a SQLite database: in the file a long one lies in pieces."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            quoted = str(name).replace('"', '""')
            for row in database.execute(f'SELECT * FROM "{quoted}"'):
                yield from (v.encode() if isinstance(v, str) else v for v in row
                            if isinstance(v, str | bytes))  # fmt: skip


def _inflated(path: Path, data: Any) -> Iterator[bytes]:
    """The blocks of an Avro file, each between two of the marks that its header ends with."""
    content = bytes(data)
    mark = content[-16:]
    for block in content.split(mark)[1:-1]:
        _, at = _number(block, 0)
        size, at = _number(block, at)
        packed = block[at : at + size]
        yield zlib.decompress(packed, wbits=-15) if b"deflate" in content[:65_536] else packed


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An Avro integer, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


_UNPACKED: dict[bytes, Callable[[Path, Any], Iterator[bytes]]] = {
    b"\x1f\x8b": _gunzipped,
    b"PK": _unzipped,
    b"Obj\x01": _inflated,
    b"SQLi": _rows,
}
