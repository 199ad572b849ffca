"""Histograms of parts add up to the histogram of the whole."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.monitoring import decile_edges, histogram_of, psi

values = st.lists(st.one_of(st.none(), st.floats(allow_infinity=False)), max_size=60)


@settings(max_examples=80, deadline=None)
@given(values, values, values)
def test_merge_is_the_histogram_of_both(
    reference: list[float | None], left: list[float | None], right: list[float | None]
) -> None:
    """However a window is split, its parts merge into the same histogram."""
    edges = decile_edges(np.array(reference, dtype=np.float64))
    merged = histogram_of(left, edges).merge(histogram_of(right, edges))
    assert merged == histogram_of(left + right, edges)
    assert merged.total == len(left) + len(right)


@settings(max_examples=80, deadline=None)
@given(values, values)
def test_psi_is_finite_symmetric_and_never_negative(
    reference: list[float | None], window: list[float | None]
) -> None:
    """Smoothing every bin keeps PSI finite, empty bins and empty windows included."""
    edges = decile_edges(np.array(reference, dtype=np.float64))
    a, b = histogram_of(reference, edges), histogram_of(window, edges)
    assert 0 <= psi(a, b) < math.inf
    assert math.isclose(psi(a, b), psi(b, a), rel_tol=1e-9, abs_tol=1e-12)
