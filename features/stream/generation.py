"""The head of one version of a view in one partition: entities' states, and how far they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from features.algebra.state import EntityState
from features.algebra.view import Row, ViewAlgebra, micros
from features.online.store import Cell, Head, Version
from features.stream.checkpoint import Checkpoint
from features.stream.screen import Block

CACHED_ENTITIES = 100_000
"""How many entities' states a generation keeps in memory between flushes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is remembered of a generation beside its states; times are UTC µs.

    ``newest`` is the greatest available_at in it, ``through`` a time before which everything that
    was available is in it, ``published`` whether the store was ever seen to have its version.
    """

    version: Version
    newest: int | None
    through: int
    published: bool = False

    def to_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Progress:
        """Back from ``to_data``."""
        return cls(**{**data, "version": Version(**data["version"])})


@dataclass(frozen=True, slots=True)
class Settled:
    """What a flush writes: cells for the store, states for the checkpoint."""

    cells: list[Cell]
    states: list[Cell]


class Generation:
    """Takes in a partition's accepted events from its version's cut on.

    ``excluded`` are the digests of ids that the version's tail counts already. States live in the
    checkpoint; those that were touched are here until ``saved``.
    """

    def __init__(
        self,
        progress: Progress,
        algebra: ViewAlgebra,
        checkpoint: Checkpoint,
        excluded: frozenset[bytes] = frozenset(),
    ) -> None:
        self.progress = progress
        self.algebra = algebra
        self.excluded = excluded
        self.space = space_of(progress.version)
        self._checkpoint = checkpoint
        self._states: dict[bytes, EntityState] = {}
        self._touched: set[bytes] = set()

    @property
    def version(self) -> Version:
        """The version whose head it is."""
        return self.progress.version

    def own(self, block: Block, accepted: pa.Table) -> pa.Table:
        """Those of the block's accepted events that belong to this head."""
        chosen = micros(accepted.column(self.algebra.source.available_at)) >= self.version.cut
        ids = block.accepted_ids if self.excluded else None
        if ids is not None:
            chosen &= np.array([mine not in self.excluded for mine in ids], dtype=bool)
        return accepted if chosen.all() else accepted.filter(pa.array(chosen))

    def add(self, rows: Sequence[Row], events: pa.Table) -> None:
        """Takes in rows, which are what the view takes of these events.

        If it raises, the generation is of no use any more.
        """
        self._load({row.key for row in rows})
        states = self._states
        for row in rows:
            states[row.key].add(row)
        self._touched.update(row.key for row in rows)
        self._see(events)

    def tried(self, rows: Sequence[Row]) -> dict[bytes, EntityState]:
        """The states as they would be with these rows; raises what ``add`` or a flush would."""
        self._load({row.key for row in rows})
        found: dict[bytes, EntityState] = {}
        for row in rows:
            held = found.get(row.key) or self._states[row.key]
            copy = found[row.key] = EntityState.load(self.algebra.slots, held.dump())
            copy.add(row)
            copy.settle(copy.newest + 1)
            copy.pack()
            copy.dump()
        return found

    def put(self, states: dict[bytes, EntityState], events: pa.Table) -> None:
        """Takes over what ``tried`` found for these events."""
        self._states |= states
        self._touched |= states.keys()
        self._see(events)

    def see_through(self, through: int) -> None:
        """Everything that was available before this time is in."""
        through = max(self.progress.through, through)
        self.progress = dataclasses.replace(self.progress, through=through)

    def see_published(self) -> None:
        """The store has its version."""
        if not self.progress.published:
            self.progress = dataclasses.replace(self.progress, published=True)

    def head(self, offset: int) -> Head:
        """How far it is, once everything before the offset was taken in."""
        return Head(offset, self.progress.newest, self.progress.through)

    def settled(self) -> Settled:
        """The touched entities, each as of just after its own newest event."""
        cells, states = [], []
        for key in sorted(self._touched):
            state = self._states[key]
            state.settle(state.newest + 1)
            cells.append((key, state.pack()))
            states.append((key, state.dump()))
        return Settled(cells, states)

    def saved(self) -> None:
        """What was settled is in the checkpoint now."""
        self._touched.clear()
        if len(self._states) > CACHED_ENTITIES:
            self._states.clear()

    def _see(self, events: pa.Table) -> None:
        if events.num_rows:
            newest = int(micros(events.column(self.algebra.source.available_at)).max())
            known = self.progress.newest
            newest = newest if known is None else max(known, newest)
            self.progress = dataclasses.replace(self.progress, newest=newest)

    def _load(self, keys: Iterable[bytes]) -> None:
        missing = [key for key in keys if key not in self._states]
        slots = self.algebra.slots
        for key, raw in zip(missing, self._checkpoint.get(self.space, missing), strict=True):
            state = EntityState(slots) if raw is None else EntityState.load(slots, raw)
            self._states[key] = state


def space_of(version: Version) -> str:
    """Where the checkpoint keeps a generation's states: a try that failed has its own place."""
    return f"{version.view}/{version.number}.{version.cut}.{version.snapshot}"
