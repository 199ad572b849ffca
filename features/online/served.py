"""One row of online features, each value with its state, its substitute and its position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("value", "empty", "absent", "expired", "error")
"""What a value is: computed; nothing in the window; never seen; too old; not computable."""
SUBSTITUTES = ("none", "stale", "default", "snapshot")
"""What stands in its place."""


@dataclass(frozen=True, slots=True)
class Position:
    """Which events a view's values are made of.

    They are those with ``available_at < cut`` (UTC µs) in the batch version ``version``, and of
    each partition of the view's stream those that became available at ``cut`` or later and stand
    before ``offsets[partition]`` in the log.
    """

    version: int
    cut: int
    offsets: tuple[int, ...] = ()


NOWHERE = Position(0, 0)
"""The position of a view that was never materialized."""


@dataclass(frozen=True, slots=True)
class Served:
    """The answer to one row: values, states and substitutes in the order of the plan's outputs.

    ``positions`` and ``tiers`` (who answered, and how long ago in µs) are by role. ``at`` is the
    time the values are worth, UTC µs: the question's, but not before what the head has seen.
    """

    values: list[Any]
    states: list[str]
    substitutes: list[str]
    positions: Mapping[str, Position]
    at: int = 0
    tiers: Mapping[str, tuple[str, int]] = field(default_factory=dict)
