"""Drift of served features against the training reference, with an honest threshold.

PSI on the deciles of the reference, 0.5 added to every bin's count. Without drift, PSI is about
``χ²(B-1) · (1/N + 1/M)`` (a likelihood-ratio statistic of two multinomial samples), so the alert
level follows the sizes of both samples instead of a rule of thumb: a bare "PSI > 0.1" fires 85 % of
the time at N = M = 100 with no drift at all. An effect floor keeps huge windows from alerting on
differences too small to matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from serving.monitoring.histograms import Histogram

_SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """When a difference is drift.

    ``alpha`` bounds the false alarms of a whole report (it is shared among its checks).
    ``psi_floor`` and ``missing_floor`` are effects below which nothing is reported.
    ``min_rows`` rows must be in the window before anything is said.
    """

    alpha: float = 0.01
    psi_floor: float = 0.1
    missing_floor: float = 0.05
    min_rows: int = 100


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature's window against its reference."""

    feature: str
    psi: float
    psi_threshold: float
    missing: float
    missing_reference: float
    missing_threshold: float
    rows: int

    @property
    def drifted(self) -> bool:
        """True if the distribution or the missing rate moved further than chance and the floor."""
        return self.psi > self.psi_threshold or self.missing_moved > self.missing_threshold

    @property
    def missing_moved(self) -> float:
        """By how much the missing rate moved, either way."""
        return abs(self.missing - self.missing_reference)


@dataclass(frozen=True, slots=True)
class DriftReport:
    """Every feature compared, most moved first; ``skipped`` names those with too few rows."""

    features: tuple[FeatureDrift, ...]
    skipped: tuple[str, ...]

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """The features that drifted, most moved first."""
        return tuple(feature for feature in self.features if feature.drifted)


def check(
    baseline: Mapping[str, Histogram],
    window: Mapping[str, Histogram],
    policy: DriftPolicy | None = None,
) -> DriftReport:
    """Compares a window with the training reference, feature by feature; both on the same edges."""
    policy = policy or DriftPolicy()
    ready = [name for name in baseline if _enough(window.get(name), policy)]
    # Two checks a feature, so that alpha holds for the report as a whole (Bonferroni).
    alpha = policy.alpha / max(1, 2 * len(ready))
    features = [_compare(name, baseline[name], window[name], alpha, policy) for name in ready]
    features.sort(key=lambda feature: -feature.psi)
    return DriftReport(tuple(features), tuple(name for name in baseline if name not in ready))


def psi(reference: Histogram, window: Histogram) -> float:
    """The population stability index of two histograms on the same edges, every bin smoothed."""
    bins = len(reference.counts)
    p_total = reference.present + _SMOOTHING * bins
    q_total = window.present + _SMOOTHING * bins
    return sum(
        _term((p + _SMOOTHING) / p_total, (q + _SMOOTHING) / q_total)
        for p, q in zip(reference.counts, window.counts, strict=True)
    )


def psi_threshold(reference: Histogram, window: Histogram, alpha: float) -> float:
    """The PSI that chance alone exceeds with probability ``alpha``."""
    if not reference.present or not window.present:
        return math.inf
    chance = chi_square_quantile(alpha, len(reference.counts) - 1)
    return chance * (1 / reference.present + 1 / window.present)


def chi_square_quantile(alpha: float, degrees: int) -> float:
    """The value that a χ² variable of whole degrees exceeds with probability ``alpha``."""
    if degrees < 1:
        return 0.0
    low, high = 0.0, 2.0 * degrees - 4 * math.log(alpha) + 4
    for _ in range(64):
        middle = (low + high) / 2
        if chi_square_survival(middle, degrees) > alpha:
            low = middle
        else:
            high = middle
    return high


def chi_square_survival(x: float, degrees: int) -> float:
    """P(χ² > x) in closed form for whole degrees (Abramowitz and Stegun 26.4.4 and 26.4.5)."""
    half, odd = x / 2, degrees % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    term = math.exp(-half) * (math.sqrt(half) / math.gamma(1.5) if odd else 1.0)
    for i in range(degrees // 2):
        total += term
        term *= half / (i + (1.5 if odd else 1.0))
    return total


def _enough(window: Histogram | None, policy: DriftPolicy) -> bool:
    return window is not None and window.total >= policy.min_rows


def _compare(
    name: str, reference: Histogram, window: Histogram, alpha: float, policy: DriftPolicy
) -> FeatureDrift:
    return FeatureDrift(
        feature=name,
        psi=psi(reference, window),
        psi_threshold=max(psi_threshold(reference, window, alpha), policy.psi_floor),
        missing=_share(window),
        missing_reference=_share(reference),
        missing_threshold=max(_missing_threshold(reference, window, alpha), policy.missing_floor),
        rows=window.total,
    )


def _missing_threshold(reference: Histogram, window: Histogram, alpha: float) -> float:
    pooled = (reference.missing + window.missing) / max(1, reference.total + window.total)
    error = math.sqrt(pooled * (1 - pooled) * (1 / max(1, reference.total) + 1 / window.total))
    return NormalDist().inv_cdf(1 - alpha / 2) * error


def _share(histogram: Histogram) -> float:
    return histogram.missing / histogram.total if histogram.total else 0.0


def _term(p: float, q: float) -> float:
    return (p - q) * math.log(p / q)
