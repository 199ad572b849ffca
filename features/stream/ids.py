"""Event ids of a partition: which came first, so that the same event twice counts once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from features.algebra.compiled import plain
from features.offline.lake import OFFSET
from features.stream.checkpoint import Checkpoint
from features.stream.screen import ACCEPTED, DUPLICATE, Block

SPACE = "ids"
_BYTES = 8


class SeenIds:
    """The offset at which each id was accepted first: saved ones in the checkpoint, new ones here.

    Whether an event is a duplicate follows from the log before it, so a replay finds the same.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._new: dict[bytes, int] = {}

    def judge(self, block: Block, ids: Sequence[bytes | None]) -> Block:
        """The block with accepted events whose id came before as duplicates; claims the others.

        ``ids`` are of all its events. A null id is nobody's, and only what is accepted claims one.
        """
        offsets = block.events.column(OFFSET).to_pylist()
        claims = [(row, ids[row]) for row in np.flatnonzero(block.outcomes == ACCEPTED).tolist()]
        claimed = [(row, mine) for row, mine in claims if mine is not None]
        outcomes = block.outcomes.copy()
        for (row, mine), first in zip(claimed, self._firsts([i for _, i in claimed]), strict=True):
            first = self._new.setdefault(mine, offsets[row]) if first is None else first
            if first < offsets[row]:
                outcomes[row] = DUPLICATE
        return block.with_ids(ids, outcomes)

    def disclaim(self, block: Block) -> None:
        """Takes back what the events of a block claimed."""
        offsets = block.events.column(OFFSET).to_pylist()
        for mine, offset in zip(block.ids or (), offsets, strict=block.ids is not None):
            if mine is not None and self._new.get(mine) == offset:
                del self._new[mine]

    def changes(self) -> Iterator[tuple[bytes, bytes]]:
        """What is new since the last ``saved``, for the checkpoint."""
        return ((mine, first.to_bytes(_BYTES, "big")) for mine, first in self._new.items())

    def saved(self) -> None:
        """Forgets what the checkpoint has now."""
        self._new.clear()

    def _firsts(self, ids: list[bytes]) -> list[int | None]:
        found = self._checkpoint.get(SPACE, ids)
        return [None if raw is None else int.from_bytes(raw, "big") for raw in found]


def id_digests(column: pa.ChunkedArray | pa.Array) -> list[bytes | None]:
    """Sixteen bytes for every id, equal for equal ids; None for null."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return [
        None if value is None else hashlib.blake2b(repr(value).encode(), digest_size=16).digest()
        for value in plain(column, "")
    ]
