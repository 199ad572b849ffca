"""Counts per bin on edges fixed by the training reference; histograms of the same edges add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput

_DECILES = np.arange(0.1, 1.0, 0.1)


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts[i]`` values lie in ``(edges[i-1], edges[i]]``; nulls and NaN are ``missing``."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int = 0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise BadInput(
                f"{len(self.edges)} edges make {len(self.edges) + 1} bins, not {len(self.counts)}"
            )

    @property
    def present(self) -> int:
        """How many values are not missing."""
        return sum(self.counts)

    @property
    def total(self) -> int:
        """How many values, missing ones included."""
        return self.present + self.missing

    def merge(self, other: Histogram) -> Histogram:
        """Both together; raises BadInput when the edges differ."""
        if other.edges != self.edges:
            raise BadInput("histograms of different edges do not add up")
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.edges, counts, self.missing + other.missing)


def decile_edges(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    """The inner decile edges of a reference, each an observed value; fewer where values repeat.

    No edge equals the greatest value, so that no bin is empty in the reference.
    """
    present = _present(np.asarray(values, dtype=np.float64))
    if present.size == 0:
        return ()
    edges = np.unique(np.quantile(present, _DECILES, method="inverted_cdf"))
    return tuple(edges[edges < present.max()].tolist())


def histogram_of(
    values: Sequence[float | None] | NDArray[np.float64], edges: tuple[float, ...]
) -> Histogram:
    """Counts the values on given edges; ``None`` and NaN count as missing."""
    array = np.asarray(values, dtype=np.float64)
    present = _present(array)
    bins = np.searchsorted(np.asarray(edges), present, side="left")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return Histogram(edges, tuple(counts.tolist()), int(array.size - present.size))


def _present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]
