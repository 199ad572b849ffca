"""What every online store decides in the same way: which version answers, what is refused."""

from __future__ import annotations

from collections.abc import Sequence

from features.errors import BadInput, Conflict, NotFound
from features.online.store import Version


def version_at(published: Sequence[Version], at: int) -> Version | None:
    """The version that answers for a time (UTC µs): the current one, or the one before it."""
    if len(published) > 1 and published[1].cut <= at < published[0].cut:
        return published[1]
    return published[0] if published else None


def is_other_try(one: Version, other: Version) -> bool:
    """Whether two versions have one number: then the one that was not published is a failed try."""
    return one.number == other.number and one != other


def check_partition(version: Version, partition: int) -> None:
    """Raises BadInput if the version has no such partition."""
    if not 0 <= partition < version.partitions:
        raise BadInput(
            f"The version {version.number} of {version.view} has no partition {partition}.",
            f"It was made for {version.partitions} partitions, counted from 0.",
        )


def no_tail(version: Version) -> NotFound:
    """The error for a version that cannot be published."""
    return NotFound(
        f"The version {version.number} of {version.view} has no tail.",
        "Materialize the view first.",
    )


def is_current(version: Version) -> Conflict:
    """The error for a version that cannot be dropped."""
    return Conflict(
        f"The version {version.number} of {version.view} is the current one.",
        "Publish another version before you drop it.",
    )
