"""Definitions are values: frozen mappings, and equality by what a thing is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

V = TypeVar("V")


class FrozenMap(Mapping[str, V]):
    """A mapping that cannot change: keeps its order, hashes, pickles, equals by value."""

    __slots__ = ("_found", "pairs")

    pairs: tuple[tuple[str, V], ...]
    _found: dict[str, V]

    def __init__(self, source: Mapping[str, V] | None = None) -> None:
        object.__setattr__(self, "pairs", tuple((source or {}).items()))
        object.__setattr__(self, "_found", dict(self.pairs))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a definition is frozen")

    def __getitem__(self, name: str) -> V:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and structure(self) == structure(other)

    def __hash__(self) -> int:
        return hash(structure(self))

    def __repr__(self) -> str:
        return repr(self._found)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (dict(self.pairs),)


class ByValue:
    """Base of frozen dataclasses that may hold expressions, whose own ``==`` builds a node."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and structure(self) == structure(other)

    def __hash__(self) -> int:
        return hash(structure(self))


def structure(thing: Any) -> Any:
    """Nested tuples that are equal iff two definitions are: NaN equals NaN, 1 is not True."""
    if is_dataclass(thing):
        parts = (structure(getattr(thing, f.name)) for f in fields(thing) if f.compare)
        return (type(thing).__name__, *parts)
    if isinstance(thing, Mapping):
        return ("map", *((name, structure(value)) for name, value in thing.items()))
    if isinstance(thing, (tuple, list)):
        return ("list", *(structure(item) for item in thing))
    return (type(thing).__name__, thing.hex() if isinstance(thing, float) else thing)
