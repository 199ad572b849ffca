"""Questions about the past, answered from an alias's moves."""

from __future__ import annotations

from collections.abc import Iterable

from training.gallery.model_version import AliasMove


def alias_at(moves: Iterable[AliasMove], alias: str, at: int) -> int | None:
    """Which version the alias named at a time (UTC µs); a move counts from its own time on."""
    named: int | None = None
    for move in moves:
        if move.alias == alias and move.at <= at:
            named = move.to
    return named


def aliases_of(moves: Iterable[AliasMove]) -> dict[str, int]:
    """Every alias of a family as it stands after its moves, sorted by name."""
    last = {move.alias: move.to for move in moves}
    return {alias: to for alias, to in sorted(last.items()) if to is not None}
