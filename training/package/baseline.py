"""What the training reference looked like, for drift to be measured against.

Bins are cut at the deciles of the reference alone; bin ``i`` holds ``(edges[i-1], edges[i]]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import DamagedData

Floats = npt.NDArray[np.float64]
_DECILES = np.arange(1, 10) / 10


@dataclass(frozen=True, slots=True)
class Bins:
    """Counts between edges, the first and last bin open; null and NaN are ``missing``."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int = 0

    @property
    def missing_rate(self) -> float:
        """The share of values that are null or NaN."""
        total = sum(self.counts) + self.missing
        return self.missing / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """Every numeric output of the service on the train split; the score on the validation split.

    The score's reference is data that the model did not learn from: on its own training rows a
    model is surer of itself than it will ever be again.
    """

    features: Mapping[str, Bins]
    score: Bins

    def data(self) -> dict[str, Any]:
        """JSON-able data, for ``baseline_of``."""
        return asdict(self)


def baseline_of(data: Mapping[str, Any]) -> Baseline:
    """The baseline that ``data`` wrote; raises DamagedData for anything else."""
    try:
        features = {name: _bins(bins) for name, bins in data["features"].items()}
        return Baseline(features, _bins(data["score"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedData(f"this is not a stored baseline: {error}") from error


def _bins(data: Mapping[str, Any]) -> Bins:
    return Bins(tuple(data["edges"]), tuple(data["counts"]), data["missing"])


def bins_of(values: npt.ArrayLike) -> Bins:
    """Decile bins of a reference; fewer where values repeat, so that no bin of it is empty."""
    array = np.asarray(values, dtype=np.float64)
    present = array[~np.isnan(array)]
    edges = _edges(present)
    places = np.searchsorted(edges, present, side="left")
    counts = np.bincount(places, minlength=len(edges) + 1)
    missing = len(array) - len(present)
    return Bins(tuple(edges.tolist()), tuple(counts.tolist()), missing)


def _edges(present: Floats) -> Floats:
    if not present.size:
        return np.empty(0)
    edges = np.unique(np.quantile(present, _DECILES, method="inverted_cdf"))
    return np.asarray(edges[edges < present.max()], dtype=np.float64)
