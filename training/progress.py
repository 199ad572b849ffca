"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` in a step, with the newest numbers; total 0 if it is not known."""

    step: str
    done: int = 0
    total: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Takes progress and says nothing."""
