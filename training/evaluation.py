"""What a model is worth: metrics per split and segment, calibration, and the curves behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from training import scores
from training.dataset import Dataset, Split
from training.gallery import Metric
from training.package import Runtime
from training.scores import CalibrationBin, Floats

_CURVE_POINTS = 200
_SMALLEST_SEGMENT = 50

_BINARY: dict[str, Callable[[Floats, Floats], float | None]] = {
    "auc": scores.auc,
    "logloss": scores.log_loss,
    "brier": scores.brier,
    "calibration_error": lambda y, p: scores.calibration_error(scores.calibration(y, p)),
}
_NUMBER: dict[str, Callable[[Floats, Floats], float | None]] = {
    "rmse": scores.root_mean_square,
    "mae": scores.mean_absolute,
}
RISING = frozenset({"auc"})
"""Metrics of which more is better; of all others less is."""


@dataclass(frozen=True, slots=True)
class Curves:
    """The ROC and calibration of one model on one split, thinned for a plot."""

    name: str
    false_positive: tuple[float, ...]
    true_positive: tuple[float, ...]
    calibration: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of every split and segment, and the test split's curves (None without classes)."""

    metrics: tuple[Metric, ...]
    rows: Mapping[str, int]
    curves: Curves | None

    def value(self, name: str, split: str = "test", segment: str = "") -> float | None:
        """One metric, or None where it was not measured or is undefined."""
        asked = (name, split, segment)
        return next(
            (m.value for m in self.metrics if (m.name, m.split, m.segment) == asked),
            None,
        )

    def numbers(self) -> dict[str, float | None]:
        """The whole test split's metrics by name."""
        return {m.name: m.value for m in self.metrics if m.split == "test" and not m.segment}

    def data(self) -> dict[str, Any]:
        """JSON-able data for the report."""
        return asdict(self)


def evaluate(
    name: str, dataset: Dataset, runtime: Runtime, objective: str, segments: Sequence[str] = ()
) -> Evaluation:
    """Scores every split by the runtime that will serve, and measures.

    A segment is a value of one of the ``segments`` columns, on the test split; values with fewer
    than 50 rows are left out.
    """
    measures = _measures(objective)
    scored = {k: runtime.predict(split.matrix) for k, split in dataset.splits().items()}
    metrics = [
        Metric(metric, measure(split.label, scored[k]), k)
        for k, split in dataset.splits().items()
        for metric, measure in measures.items()
    ]
    metrics += _of_segments(dataset.test, scored["test"], measures, segments)
    rows = {k: len(split.label) for k, split in dataset.splits().items()}
    curves = _curves(name, dataset.test.label, scored["test"]) if "auc" in measures else None
    return Evaluation(tuple(metrics), rows, curves)


def measure_split(split: Split, score: Floats, objective: str) -> dict[str, float | None]:
    """Every metric of one split by name."""
    return {name: measure(split.label, score) for name, measure in _measures(objective).items()}


def _measures(objective: str) -> dict[str, Callable[[Floats, Floats], float | None]]:
    return _BINARY if objective.startswith("binary:") else _NUMBER


def _of_segments(
    split: Split,
    score: Floats,
    measures: Mapping[str, Callable[[Floats, Floats], float | None]],
    segments: Sequence[str],
) -> list[Metric]:
    return [
        Metric(metric, measure(split.label[rows], score[rows]), "test", f"{column}={value}")
        for column in segments
        for value, rows in _groups(split.table, column)
        for metric, measure in measures.items()
    ]


def _groups(table: pa.Table, column: str) -> list[tuple[str, np.ndarray[Any, Any]]]:
    values = table.column(column).to_pylist()
    keys = np.array(["null" if v is None else str(v) for v in values])
    groups = [(str(key), np.flatnonzero(keys == key)) for key in np.unique(keys)]
    return [(key, rows) for key, rows in groups if len(rows) >= _SMALLEST_SEGMENT]


def _curves(name: str, label: Floats, score: Floats) -> Curves:
    false, true = scores.roc(label, score)
    kept = np.unique(np.linspace(0, len(false) - 1, _CURVE_POINTS).astype(int))
    bins = scores.calibration(label, score)
    return Curves(name, tuple(false[kept].tolist()), tuple(true[kept].tolist()), bins)
