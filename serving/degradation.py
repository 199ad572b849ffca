"""How much worse than promised an answer is, and in which features; never silent.

Level 0: every value is what it should be. Level 1: some are older than they should be.
Level 2: some were replaced by a default, or could not be computed and are missing. Level 3: some
are those of a precomputed snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from features.online import Served

_LEVEL = {"stale": 1, "default": 2, "missing": 2, "snapshot": 3}


@dataclass(frozen=True, slots=True)
class Degradation:
    """The level of an answer, and what happened to each feature that is not as it should be."""

    level: int = 0
    features: dict[str, str] = field(default_factory=dict)

    def data(self) -> dict[str, object]:
        """As it stands in an answer."""
        return {"level": self.level, "features": self.features}


NONE = Degradation()


def degradation_of(outputs: Sequence[str], served: Sequence[Served]) -> Degradation:
    """The degradation of an answer made from these rows; the worst row counts for a feature."""
    touched = [row for row in served if _touched(row)]
    if not touched:
        return NONE
    features: dict[str, str] = {}
    for row in touched:
        _collect(outputs, row, features)
    return Degradation(max(_LEVEL[what] for what in features.values()), features)


def _touched(row: Served) -> bool:
    return "error" in row.states or row.substitutes.count("none") != len(row.substitutes)


def _collect(outputs: Sequence[str], row: Served, features: dict[str, str]) -> None:
    for name, state, substitute in zip(outputs, row.states, row.substitutes, strict=True):
        what = substitute if substitute != "none" else "missing" if state == "error" else ""
        if what and _LEVEL[what] >= _LEVEL.get(features.get(name, ""), 0):
            features[name] = what
