"""From the log into the lake: accepted events and dead letters, each exactly once.

A table's summary says up to which offset a partition has landed in it, in the same snapshot as the
rows, so a crash at any moment neither loses nor repeats one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.offline.ingest import dead_letter_table
from features.offline.lake import MARK, OFFSET, Lake, TableSpec, source_table
from features.sources import Source
from features.stream.screen import Block

BLOCK = 10_000
Judge = Callable[[int, int], Block | None]
"""The events from an offset on, at most so many, as they were judged; None at the end."""


@dataclass(frozen=True, slots=True)
class Landed:
    """Offsets before which everything has landed: accepted events, and dead letters."""

    rows: int = 0
    letters: int = 0

    @property
    def whole(self) -> int:
        """The offset before which nothing is missing."""
        return min(self.rows, self.letters)


@dataclass(slots=True)
class _Range:
    """What is to land, and the dead letters that were met on the way."""

    after: Landed
    to: int
    letters: list[pa.Table] = field(default_factory=list)
    rows: int = 0


class Lander:
    """Commits one partition's events; it is the only one to do so for this partition."""

    def __init__(self, source: Source, partition: int, lake: Lake, judge: Judge) -> None:
        self._lake = lake
        self._rows = source_table(source)
        self._letters = dead_letter_table(source)
        self._place = f"{source.stream}/{partition}"
        self._mark = f"{MARK}{source.stream}.{partition}"
        self._judge = judge

    def marked(self, known: Landed) -> Landed:
        """How far the tables are, or what is known to be done if that is further."""
        return Landed(
            max(known.rows, self._marked(self._rows)),
            max(known.letters, self._marked(self._letters)),
        )

    def land(self, known: Landed, to: int) -> tuple[Landed, int]:
        """Brings everything before ``to`` into the lake; returns how far it is, and new rows.

        ``known`` is what an earlier call returned, or nothing. Raises Unavailable if the lake's
        storage fails; what has landed then stays and is not repeated.
        """
        after = self.marked(known)
        if after.whole >= to:
            return after, 0
        todo = _Range(after, to)
        tables = self._accepted(todo)
        first = next(tables, None)
        if first is None:
            self._store_letters(todo)
        else:
            self._lake.create(self._rows)
            data = chain([first], tables, self._letters_last(todo))
            self._append(self._rows, data, after.rows, to)
        return Landed(max(after.rows, to), max(after.letters, to)), todo.rows

    def _accepted(self, todo: _Range) -> Iterator[pa.Table]:
        offset = todo.after.whole
        while offset < todo.to:
            block = self._judge(offset, min(BLOCK, todo.to - offset))
            if block is None:
                return
            offset = block.end
            letters = _from(block.letters(self._place), todo.after.letters)
            if letters.num_rows:
                todo.letters.append(letters)
            rows = _from(block.accepted, todo.after.rows)
            if rows.num_rows:
                todo.rows += rows.num_rows
                yield rows

    def _letters_last(self, todo: _Range) -> Iterator[pa.Table]:
        """Dead letters, once all are known: before the rows are committed, which ends it."""
        self._store_letters(todo)
        yield from ()

    def _store_letters(self, todo: _Range) -> None:
        if todo.letters:
            self._lake.create(self._letters)
            self._append(self._letters, todo.letters, todo.after.letters, todo.to)

    def _append(self, table: TableSpec, data: Any, start: int, to: int) -> None:
        digest = f"{self._place}/{start}-{to}"
        self._lake.append(table.name, data, digest=digest, summary={self._mark: str(to)})

    def _marked(self, table: TableSpec) -> int:
        if table.name not in self._lake.tables():
            return 0
        return int(self._lake.describe(table.name).summary.get(self._mark, 0))


def _from(events: pa.Table, offset: int) -> pa.Table:
    if not events.num_rows or events.column(OFFSET)[0].as_py() >= offset:
        return events
    return events.filter(pc.greater_equal(events.column(OFFSET), offset))
