"""The audit: a file of records, each with the hash of the one before, so that none can go missing.

What a record says was scanned was scanned; where nothing looked, ``scanned`` is null.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from genai_gateway.records.record import Record

_START = "0" * 64
_log = logging.getLogger("tondo.llm")


class AuditFile:
    """Appends records to a file that no other process writes, and goes on after its last one.

    A half line at the end (a crash while writing) is cut off first.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        last, whole = _last(path)
        self._hash = last
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, whole)
        os.lseek(descriptor, whole, os.SEEK_SET)
        self._descriptor = descriptor

    def record(self, record: Record) -> None:
        """Appends one record; a full disk is told in the log."""
        body = orjson.dumps(record.data(), option=orjson.OPT_SORT_KEYS).decode()
        chained = _chained(self._hash, body)
        line = f'{{"hash":"{chained}","record":{body}}}\n'.encode()
        try:
            os.write(self._descriptor, line)
        except OSError as error:
            _log.error("the audit cannot be written: %s", error.strerror)
        else:
            self._hash = chained

    def close(self) -> None:
        """Closes the file after its bytes are on the disk."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a file's chain is whole: how many records are, and the line of the first damage."""

    records: int
    broken_at: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing was changed, removed or put between."""
        return not self.broken_at


def verify_audit(path: Path) -> Verdict:
    """Checks the chain of a file from its beginning."""
    before, count = _START, 0
    for count, (line, chained, _) in enumerate(_lines(path), start=1):
        body = line[len('{"hash":"') + 64 + len('","record":') : -1].decode("utf-8", "replace")
        if not chained or chained != _chained(before, body):
            return Verdict(count - 1, count)
        before = chained
    return Verdict(count)


def read_audit(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, oldest first."""
    for _, _, record in _lines(path):
        yield record


def _lines(path: Path) -> Iterator[tuple[bytes, str, dict[str, Any]]]:
    with path.open("rb") as file:
        for raw in file:
            line = raw.rstrip(b"\n")
            try:
                entry = orjson.loads(line)
                yield line, entry["hash"], entry["record"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                yield line, "", {}


def _last(path: Path) -> tuple[str, int]:
    """The hash of the last whole line, and where it ends."""
    if not path.exists():
        return _START, 0
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    lines = raw[:whole].splitlines()
    if not lines:
        return _START, 0
    try:
        return str(orjson.loads(lines[-1])["hash"]), whole
    except (orjson.JSONDecodeError, KeyError):
        return _START, whole


def _chained(before: str, body: str) -> str:
    return hashlib.sha256(f"{before}{body}".encode()).hexdigest()
