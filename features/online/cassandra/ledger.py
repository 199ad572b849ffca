"""What Cassandra's store knows of a view: versions, tails that are being written, what to remove.

A ledger changes as a whole, so nothing is ever lost sight of: a part is in it before its first cell
is written, and stays in it until its last cell is removed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from features.errors import Conflict
from features.online.catalog import Entries, TailFile, decode, encode, entry_of, with_tail
from features.online.sealing import opened_cell, sealed_cell
from features.online.store import Version

ABANDONED_US = 86_400_000_000
"""A tail that is still being written after so long has no writer any more."""


@dataclass(frozen=True, slots=True)
class Part:
    """A tail or a head: its version's number, its name, since when it is what it is (UTC µs)."""

    number: int
    name: str
    since: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """A view's versions, the tails that are being written, the parts that are to be removed."""

    entries: Entries = ()
    building: tuple[Part, ...] = ()
    garbage: tuple[Part, ...] = ()


def parts(ledger: Ledger) -> list[Part]:
    """All parts that a view has, those to be removed last."""
    named = [Part(number, name, 0) for number, name in _parts(ledger.entries)]
    return [*named, *ledger.building, *ledger.garbage]


def begun(ledger: Ledger, tail: Part) -> Ledger:
    """The ledger once a tail is being written; what others began and left is to be removed."""
    if tail in ledger.building:
        return ledger
    old = tail.since - ABANDONED_US
    left = tuple(part for part in ledger.building if part.since < old)
    kept = tuple(part for part in ledger.building if part.since >= old)
    garbage = (*ledger.garbage, *(dataclasses.replace(part, since=tail.since) for part in left))
    return Ledger(ledger.entries, (*kept, tail), garbage)


def built(ledger: Ledger, version: Version, tail: Part, cells: int, now: int) -> Ledger:
    """The ledger once a tail is whole; Conflict if it was taken for abandoned meanwhile."""
    entries = with_tail(ledger.entries, version, TailFile(tail.name, cells, 0))
    if entry_of(ledger.entries, version).tail == TailFile(tail.name, cells, 0):
        return ledger
    if tail not in ledger.building:
        raise Conflict(
            f"The tail of {version.view} took longer than a day and was given up.",
            "Materialize the view again.",
        )
    building = tuple(part for part in ledger.building if part != tail)
    return with_entries(dataclasses.replace(ledger, building=building), entries, now)


def given_up(ledger: Ledger, tail: Part, now: int) -> Ledger:
    """The ledger once a tail cannot be finished."""
    if tail not in ledger.building:
        return ledger
    building = tuple(part for part in ledger.building if part != tail)
    garbage = (*ledger.garbage, dataclasses.replace(tail, since=now))
    return Ledger(ledger.entries, building, garbage)


def with_entries(ledger: Ledger, entries: Entries, now: int) -> Ledger:
    """The ledger with other versions; the parts that they have no more are to be removed."""
    kept = set(_parts(entries))
    gone = tuple(Part(n, name, now) for n, name in _parts(ledger.entries) if (n, name) not in kept)
    return dataclasses.replace(ledger, entries=entries, garbage=(*ledger.garbage, *gone))


def without(ledger: Ledger, removed: tuple[Part, ...]) -> Ledger:
    """The ledger once parts are removed."""
    garbage = tuple(part for part in ledger.garbage if part not in removed)
    return dataclasses.replace(ledger, garbage=garbage)


def packed(view: str, ledger: Ledger) -> bytes:
    """A ledger as bytes behind a checksum."""
    entries = encode(ledger.entries)
    rest = orjson.dumps([ledger.building, ledger.garbage])
    return sealed_cell(view.encode(), len(entries).to_bytes(4, "big") + entries + rest)


def opened(view: str, raw: bytes) -> Ledger:
    """A ledger again; DamagedData if it is not what was written."""
    whole = opened_cell(view.encode(), raw, f"The list of versions of {view}")
    end = 4 + int.from_bytes(whole[:4], "big")
    building, garbage = orjson.loads(whole[end:])
    return Ledger(
        decode(whole[4:end]),
        tuple(Part(**part) for part in building),
        tuple(Part(**part) for part in garbage),
    )


def _parts(entries: Entries) -> Iterator[tuple[int, str]]:
    for entry in entries:
        if entry.tail is not None:
            yield entry.version.number, entry.tail.name
        for name in entry.heads:
            if name is not None:
                yield entry.version.number, name
