"""Drift is found where it is, and not where it is not."""

import numpy as np
import pytest
from scipy.stats import chi2

from features.errors import BadInput
from serving.monitoring import DriftPolicy, Histogram, check, decile_edges, histogram_of, psi
from serving.monitoring.drift import chi_square_quantile, psi_threshold

NO_FLOOR = DriftPolicy(alpha=0.01, psi_floor=0.0, missing_floor=1.0, min_rows=1)


def test_chance_alone_rarely_alarms() -> None:
    """With no drift at all, 100 against 100 rows alarm in about one check of a hundred."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(3_000):
        reference = rng.normal(size=100)
        edges = decile_edges(reference)
        before, after = histogram_of(reference, edges), histogram_of(rng.normal(size=100), edges)
        alarms += psi(before, after) > psi_threshold(before, after, 0.01)
    assert alarms / 3_000 < 0.015


def test_a_shift_is_found_and_one_outlier_does_not_hide_it() -> None:
    """Bins come from the reference alone, so an outlier in the window moves no bin."""
    rng = np.random.default_rng(5)
    reference = rng.normal(size=500)
    edges = decile_edges(reference)
    window = np.append(rng.normal(loc=1.0, size=499), 1e9)
    report = check(
        {"delay": histogram_of(reference, edges)}, {"delay": histogram_of(window, edges)}
    )
    assert [feature.feature for feature in report.drifted] == ["delay"]


def test_a_missing_rate_that_jumps_is_drift() -> None:
    """A feature that goes missing is reported although the values left look the same."""
    values = np.random.default_rng(7).normal(size=1_000)
    edges = decile_edges(values)
    window = values.copy()
    window[:200] = np.nan
    report = check({"x": histogram_of(values, edges)}, {"x": histogram_of(window, edges)})
    (feature,) = report.drifted
    assert feature.missing == pytest.approx(0.2)
    assert feature.missing_reference == 0


def test_a_difference_below_the_floor_is_not_drift() -> None:
    """A tiny effect stays quiet however many rows prove it."""
    rng = np.random.default_rng(11)
    reference = rng.normal(size=200_000)
    edges = decile_edges(reference)
    before = {"x": histogram_of(reference, edges)}
    after = {"x": histogram_of(rng.normal(loc=0.05, size=200_000), edges)}
    assert not check(before, after).drifted
    assert check(before, after, NO_FLOOR).drifted


def test_too_few_rows_are_named_not_judged() -> None:
    """A window that is too small, or absent, is listed as skipped."""
    full = histogram_of(np.arange(1_000.0), decile_edges(np.arange(1_000.0)))
    small = Histogram(full.edges, (1,) * len(full.counts))
    report = check({"a": full, "b": full}, {"a": small})
    assert report.skipped == ("a", "b")
    assert report.features == ()


def test_a_constant_feature_has_one_bin_and_no_drift() -> None:
    """A constant reference makes no edges and never alarms by itself."""
    assert decile_edges(np.ones(50)) == ()
    one = histogram_of(np.ones(200), ())
    assert not check({"x": one}, {"x": one}).drifted


def test_no_reference_bin_is_empty() -> None:
    """Repeated values make fewer bins, none of them empty."""
    values = np.array([0.0] * 80 + [1.0] * 15 + [2.0] * 5)
    assert all(histogram_of(values, decile_edges(values)).counts)


@pytest.mark.parametrize("degrees", [1, 2, 4, 9, 19])
@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.0002])
def test_the_quantile_is_the_exact_one(alpha: float, degrees: int) -> None:
    """Thresholds are those of the χ² distribution, odd and even degrees alike."""
    assert chi_square_quantile(alpha, degrees) == pytest.approx(chi2.isf(alpha, degrees), rel=1e-9)


def test_histograms_of_other_edges_do_not_add_up() -> None:
    """Merging needs the same bins."""
    with pytest.raises(BadInput):
        Histogram((1.0,), (1, 1)).merge(Histogram((2.0,), (1, 1)))
