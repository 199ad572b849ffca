"""Which versions of a view want a head: the current one, the one before, and one in the making."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from features.online.store import Version
from features.stream.generation import Progress

SERVED = 2
"""How many published versions are read: the current one, and the one before it."""


def is_retired(progress: Progress, published: Sequence[Version]) -> bool:
    """Whether nobody reads this version any more, or ever will.

    ``published`` are the versions that the store has, the current one first. One that was never
    published is in the making as long as its number is ahead; else its making has failed.
    """
    version = progress.version
    if version in published:
        return version not in published[:SERVED]
    return progress.published or any(version.number <= other.number for other in published)


def missing(
    published: Sequence[Version], known: Collection[Version], partition: int
) -> list[Version]:
    """Versions that are read, and have this partition, but no head."""
    read = published[:SERVED]
    return [v for v in read if partition < v.partitions and v not in known]
