"""Numbers about predictions, from labels and scores alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BINS = 10
_TINY = 1e-15


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One tenth of the rows by score: what was promised on average, and what came."""

    promised: float
    observed: float
    rows: int


def auc(label: Floats, score: Floats) -> float | None:
    """The chance that a positive row scores above a negative one, ties half; None for one class.

    Mann and Whitney's U by mid-ranks.
    """
    positive = int((label == 1).sum())
    negative = len(label) - positive
    if not positive or not negative:
        return None
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    rank_sum = float(rank[label == 1].sum())
    return (rank_sum - positive * (positive + 1) / 2) / (positive * negative)


def log_loss(label: Floats, score: Floats) -> float:
    """The mean of −ln of the probability given to what happened."""
    p = np.clip(score, _TINY, 1 - _TINY)
    return float(-np.mean(np.where(label == 1, np.log(p), np.log1p(-p))))


def brier(label: Floats, score: Floats) -> float:
    """The mean squared gap of probability and outcome."""
    return float(np.mean((score - label) ** 2))


def calibration(label: Floats, score: Floats) -> tuple[CalibrationBin, ...]:
    """Ten bins of equally many rows, by score."""
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if part.size]
    return tuple(
        CalibrationBin(float(score[p].mean()), float(label[p].mean()), len(p)) for p in parts
    )


def calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    """The mean gap of promised and observed, weighted by rows (ECE over equal-mass bins)."""
    rows = sum(b.rows for b in bins)
    return sum(abs(b.promised - b.observed) * b.rows for b in bins) / rows


def roc(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], label[order] == 1
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    true, false = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    return np.append(0.0, false / max(1, false[-1])), np.append(0.0, true / max(1, true[-1]))


def root_mean_square(label: Floats, score: Floats) -> float:
    """The root of the mean squared error."""
    return float(np.sqrt(np.mean((score - label) ** 2)))


def mean_absolute(label: Floats, score: Floats) -> float:
    """The mean size of the error."""
    return float(np.mean(np.abs(score - label)))
