"""Where online features are kept: versions with a tail from batch and a head from the stream.

A cell is the packed partials of one entity in one view, opaque here. The *tail* of a version holds
every event that was available before its cut, the *head* of each log partition what became
available since. A reader sees a whole version or none, and of a head the cells and the position of
one moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

Cell = tuple[bytes, bytes]
"""An entity's key (``features.keys.key_bytes``) and its packed partials."""


@dataclass(frozen=True, slots=True)
class Version:
    """One materialization of a view.

    ``view`` is ``name@fingerprint``, ``number`` counts from 1, ``cut`` is UTC µs, ``partitions`` is
    the number of log partitions that feed its head (0: no stream), ``snapshot`` the lake snapshot
    that its tail was read from (0: an empty table).
    """

    view: str
    number: int
    cut: int
    partitions: int = 0
    snapshot: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """How far one partition's head has come.

    ``offset``: the events before it in the log are in the head. ``newest``: the greatest
    available_at among them, UTC µs. ``through``: everything available before it is in, UTC µs.
    """

    offset: int = 0
    newest: int | None = None
    through: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one entity in one view; ``heads`` and ``positions`` are by partition.

    ``version`` is None if the view was never published. An absent cell is None.
    """

    version: Version | None = None
    tail: bytes | None = None
    heads: tuple[bytes | None, ...] = ()
    positions: tuple[Head, ...] = ()


class OnlineStore(Protocol):
    """Cells by view, version and entity. Every method raises Unavailable if it cannot answer."""

    def write_tail(self, version: Version, cells: Iterable[Cell]) -> int:
        """Keeps the whole tail of a version and returns its number of cells.

        It is complete or not there; written again it replaces itself. Nobody reads it before
        ``publish``.
        """
        ...

    def write_head(
        self, version: Version, partition: int, cells: Iterable[Cell], head: Head
    ) -> None:
        """Replaces cells of a partition's head and its position, in one step.

        A head whose offset is lower than the one that is kept changes nothing: a replay cannot
        roll a value back.
        """
        ...

    def publish(self, version: Version) -> None:
        """Makes a version the current one of its view; the one before stays until dropped.

        Publishing the version before is a rollback. Raises NotFound without its tail.
        """
        ...

    def versions(self, view: str) -> tuple[Version, ...]:
        """The versions of a view that are kept and were published, the current one first."""
        ...

    def read(self, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        """What is known of each (view, key), in order, for a question about the time ``at``.

        Of each view that is the current version, or the one published before if only that one's
        cut is not after ``at`` (UTC µs).
        """
        ...

    def views(self) -> tuple[str, ...]:
        """Every view of which anything is kept, published or not, sorted."""
        ...

    def erase(self, view: str, keys: Collection[bytes]) -> int:
        """Removes entities from a view and returns how many of their cells there were.

        That is from the tail and the heads of every version that is kept, published or not; other
        cells, positions and versions stay as they are. On return nothing that is kept holds the
        cells or the keys, but as ``remains`` says, also not what a write that was cut off left
        behind. Again, or of an unknown view, is nothing. Nobody may write to the view's heads
        meanwhile, and readers ask anew; raises Unavailable if the storage fails or cannot forget,
        then the same call again finishes it.
        """
        ...

    def remains(self) -> tuple[str, ...]:
        """What an erasure leaves for a while in places of the storage's own, and until when."""
        ...

    def drop(self, version: Version) -> None:
        """Removes a version that is not current, its heads included, or finds it gone."""
        ...
