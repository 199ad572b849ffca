"""Which partitions a log has, and what is said of others."""

from __future__ import annotations

from features.errors import BadInput, Conflict, NotFound


def check_count(partitions: int) -> None:
    """Raises BadInput unless a log can have so many partitions."""
    if partitions < 1:
        raise BadInput(f"a log cannot have {partitions} partitions", "it has at least one")


def check_partition(partition: int, partitions: int) -> None:
    """Raises NotFound unless a log of so many partitions has this one."""
    if not 0 <= partition < partitions:
        raise NotFound(f"the log has no partition {partition}", f"they are 0 to {partitions - 1}")


def removed(offset: int, first: int) -> NotFound:
    """What is said of an offset before the first event that is kept."""
    return NotFound(f"event {offset} is no longer kept", f"the first event is {first}")


def other_count(log: object, found: object, partitions: int) -> Conflict:
    """What is said of a log that was made with another number of partitions."""
    return Conflict(
        f"the log {log} has {found} partitions, not {partitions}",
        "keys stay in their partition: open it with its own number, or begin another log",
    )
