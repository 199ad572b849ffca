"""The aggregations of a view, and which of them are kept together in a packed cell."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from features.algebra.compiled import CompiledAggregation
from features.algebra.kinds import Algebra

_LARGE_KINDS = frozenset({"approx_distinct", "approx_quantiles", "distinct", "histogram"})
_FEW = 8


@dataclass(frozen=True, slots=True)
class Group:
    """Aggregations that are found and read in one go: ``members`` are their numbers.

    They are over windows of one length that move by one hop (µs), or without a window.
    """

    window: int | None
    hop: int | None
    members: tuple[int, ...]
    algebras: tuple[Algebra, ...]


class Slots(tuple[CompiledAggregation, ...]):
    """The aggregations of a view in order, and their groups.

    What keeps few values is read whether somebody wants it or not, which costs less than to find
    it alone. What may keep many is a group of its own.
    """

    groups: tuple[Group, ...]
    places: tuple[tuple[int, int], ...]
    """By aggregation: the number of its group, and its place among the members."""
    header: struct.Struct
    """How a packed cell begins: its format, how many blocks it has, and where each of them is."""

    def __new__(cls, slots: Iterable[CompiledAggregation]) -> Slots:
        """Of aggregations in their order."""
        made = super().__new__(cls, slots)
        made.groups = _groups(made)
        found = {
            index: (number, place)
            for number, group in enumerate(made.groups)
            for place, index in enumerate(group.members)
        }
        made.header = struct.Struct(f"<BH{len(made.groups) + 1}I")
        made.places = tuple(found[index] for index in range(len(made)))
        return made


def _groups(slots: Slots) -> tuple[Group, ...]:
    found: dict[Any, list[int]] = {}
    for index, slot in enumerate(slots):
        alone = index if _may_keep_many(slot) else -1
        found.setdefault((slot.window, slot.hop, alone), []).append(index)
    return tuple(
        Group(window, hop, tuple(members), tuple(slots[index].algebra for index in members))
        for (window, hop, _), members in found.items()
    )


def _may_keep_many(slot: CompiledAggregation) -> bool:
    spec = slot.spec
    return spec.kind in _LARGE_KINDS or spec.group is not None or (spec.k or 1) > _FEW
