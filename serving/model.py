"""One loaded model version: from validated rows to features, matrix and score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.online import Served
from serving.degradation import Degradation, degradation_of
from serving.plan import RequestShape

Prepare = Callable[[Sequence[Sequence[object]]], NDArray[np.float32]]


class Reader(Protocol):
    """Reads the features of many rows at once."""

    def read(self, rows: Sequence[dict[str, object]], q: Sequence[int]) -> list[Served]:
        """One ``Served`` per row, as of its time (UTC µs)."""
        ...


class Runtime(Protocol):
    """Scores a float32 matrix of features."""

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """One score per row."""
        ...


@dataclass(frozen=True, slots=True)
class Version:
    """Which model answered: family, number and arm."""

    family: str
    version: int
    arm: str = "champion"

    def data(self) -> dict[str, object]:
        """As it stands in an answer."""
        return {"family": self.family, "version": self.version, "arm": self.arm}


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a request, with the features they were made from."""

    predictions: list[float]
    served: list[Served]
    degradation: Degradation


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version ready to answer; nothing is looked up or compiled per request."""

    version: Version
    digest: str
    plan: RequestShape
    reader: Reader
    prepare: Prepare
    runtime: Runtime

    def score(self, rows: Sequence[dict[str, object]], q: int) -> Scored:
        """Features and scores of the rows as of ``q`` (UTC µs)."""
        served = self.reader.read(rows, [q] * len(rows))
        matrix = self.prepare([row.values for row in served])
        predictions: list[float] = self.runtime.predict(matrix).tolist()
        return Scored(predictions, served, degradation_of(self.plan.outputs, served))
