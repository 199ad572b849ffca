"""The parts of the batch kernel against slow and obvious forms: exact sums, orders, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.batch import covering, order, picks
from features.batch.queries import Intervals, place_within
from features.batch.sums import Sums

HUGE, LEAST, NORMAL = 1.7976931348623157e308, 5e-324, 2.2250738585072014e-308
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1, 1),
    st.floats(-1e-300, 1e-300),
    st.sampled_from([HUGE, -HUGE, 1e308, LEAST, -LEAST, NORMAL, 0.0, 1.0, 0.1, 2.0**-600]),
)
LISTS = st.lists(FLOATS, min_size=1, max_size=30)
INTEGERS = st.one_of(
    st.sampled_from([2**63 - 1, -(2**63), 2**62, 0, 1]), st.integers(-(2**63), 2**63 - 1)
)


def sums_of(values: Sequence[Any], kind: pa.DataType) -> Sums:
    """Sums as of one question that all values cover."""
    size = len(values)
    cover = Intervals(np.zeros(size, dtype=np.int64), np.ones(size, dtype=np.int64), 1)
    return Sums(cover, pa.array(values, kind))


def rounded(value: Fraction) -> float:
    """The nearest float, ties to even; ±inf beyond the range."""
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def variance(values: Sequence[Any]) -> float:
    """The variance of a sample by the textbook, rounded once."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction()) / len(exact)
    return rounded(sum(((value - mean) ** 2 for value in exact), Fraction()) / (len(exact) - 1))


@given(values=LISTS)
@example(values=[HUGE, HUGE, -HUGE])
@example(values=[HUGE, LEAST])
@example(values=[HUGE, LEAST, -HUGE])
@example(values=[1.0, 2.0**-53, 2.0**-1074])
@example(values=[1.0, 2.0**-53, -(2.0**-1074)])
@example(values=[-1.0, -(2.0**-53)])
@example(values=[LEAST, LEAST, 0.0])
@example(values=[LEAST, 0.0, 0.0])
@example(values=[LEAST, 0.0])
@example(values=[3 * LEAST, 0.0])
@example(values=[NORMAL, LEAST, LEAST])
@example(values=[1e16, 1.0, -1e16, 1e-16])
def test_sums_of_floats_are_rounded_once(values: list[float]) -> None:
    """Sum, mean, variance and deviation are those of exact fractions, to the last bit."""
    sums = sums_of(values, pa.float64())
    exact = sum((Fraction(value) for value in values), Fraction())
    assert sums.sum().values[0].as_py() == rounded(exact)
    assert sums.mean().values[0].as_py() == rounded(exact / len(values))
    if len(values) > 1:
        assert sums.variance().values[0].as_py() == variance(values)
        assert sums.stddev().values[0].as_py() == math.sqrt(variance(values))
    else:
        assert sums.variance().values[0].as_py() is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("place", range(50, 160))
def test_the_smallest_part_breaks_a_tie(place: int, sign: float) -> None:
    """Half-way between two floats, what is far below decides, in sums and in quotients."""
    least = sign * 2.0**-place
    total = [1.0, 2.0**-53, least]
    assert sums_of(total, pa.float64()).sum().values[0].as_py() == rounded(exactly(total))
    parts = [3 * 2.0**53, 3.0, least]
    mean = sums_of(parts, pa.float64()).mean().values[0].as_py()
    assert mean == rounded(exactly(parts) / 3)


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("exponent", range(-300, 300, 7))
def test_a_tie_goes_to_the_even_float(exponent: int, odd: int) -> None:
    """Exactly half-way, wherever the digits are cut, and whatever cancelled far above and below."""
    unit = 2.0**exponent
    for bits in range(1, 54):
        values = [unit * 2.0**bits, odd * unit * 2.0 ** (bits - 52), unit * 2.0 ** (bits - 53)]
        values += [LEAST, -LEAST, 1e300, -1e300]
        assert sums_of(values, pa.float64()).sum().values[0].as_py() == rounded(exactly(values))


def exactly(values: Sequence[float]) -> Fraction:
    """The sum without rounding."""
    return sum(map(Fraction, values), Fraction())


@given(values=st.lists(INTEGERS, min_size=1, max_size=20))
@example(values=[-(2**63)])
@example(values=[2**63 - 1, 1])
@example(values=[-(2**62), -(2**62)])
@example(values=[-(2**62), -(2**62), -1])
def test_sums_of_integers_are_exact(values: list[int]) -> None:
    """What fits 64 bits is right, what does not is an error; means and variances always are."""
    sums, exact = sums_of(values, pa.int64()), sum(values)
    found = sums.sum()
    if -(2**63) <= exact < 2**63:
        assert found.values[0].as_py() == exact
        assert found.errors is None or not found.errors[0]
    else:
        assert found.values[0].as_py() is None
        assert found.errors is not None
        assert found.errors[0]
    assert sums.mean().values[0].as_py() == rounded(Fraction(exact, len(values)))
    if len(values) > 1:
        assert sums.variance().values[0].as_py() == variance(values)


@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-310, 0.0])
def test_many_values_lose_nothing(scale: float) -> None:
    """A hundred thousand floats of any size: the sums that fractions give, block by block."""
    random = np.random.default_rng(7)
    values = random.normal(size=100_000) * (scale or np.exp2(random.integers(-900, 900, 100_000)))
    exact = sum(map(Fraction, values.tolist()), Fraction())
    sums = sums_of(values.tolist(), pa.float64())
    assert sums.sum().values[0].as_py() == rounded(exact)
    assert sums.mean().values[0].as_py() == rounded(exact / len(values))
    squares = sum((Fraction(value) ** 2 for value in values.tolist()), Fraction())
    spread = (squares - exact**2 / len(values)) / (len(values) - 1)
    assert sums.variance().values[0].as_py() == rounded(spread)


@st.composite
def intervals(draw: st.DrawFn) -> Intervals:
    """Intervals over some questions, of one entity, some empty: their ends never fall."""
    size = draw(st.integers(1, 40))
    ends = sorted(draw(st.lists(st.integers(0, size), max_size=30)))
    firsts = [draw(st.integers(0, end)) for end in ends]
    return Intervals(np.array(firsts, dtype=np.int64), np.array(ends, dtype=np.int64), size)


def covers(cover: Intervals) -> list[list[int]]:
    """By question, the intervals that cover it."""
    pairs = list(enumerate(zip(cover.first.tolist(), cover.end.tolist(), strict=True)))
    return [[i for i, (a, b) in pairs if a <= q < b] for q in range(cover.size)]


@given(cover=intervals(), seed=st.integers(0, 2**32 - 1), k=st.integers(1, 4))
def test_intervals_are_summed_and_picked(cover: Intervals, seed: int, k: int) -> None:
    """Counts, totals, extremes, the latest and the first and last k: those of a loop over all."""
    size = len(cover.first)
    keys = np.random.default_rng(seed).permutation(size).astype(np.int64)
    by_question = covers(cover)
    assert covering.count(cover).tolist() == [len(found) for found in by_question]
    assert covering.total(cover, keys).tolist() == [sum(keys[found]) for found in by_question]
    best = [max((int(keys[i]) for i in found), default=None) for found in by_question]
    known = covering.greatest(cover, keys).tolist()
    assert [None if key == covering.NOTHING else key for key in known] == best
    assert covering.latest(cover).tolist() == [max(found, default=-1) for found in by_question]
    top = [sorted(keys[found].tolist(), reverse=True)[:k] for found in by_question]
    ranked = covering.best(cover, keys, k).tolist()
    assert [[key for key in row if key >= 0] for row in ranked] == top
    ends = {"first": [found[:k] for found in by_question]}
    ends["last"] = [found[::-1][:k] for found in by_question]
    for kind, wanted in ends.items():
        rows = picks.end_events(kind, k, cover).tolist()
        assert [[i for i in row if i >= 0] for row in rows] == wanted


@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 2**40]),
            st.one_of(st.integers(-5, 5), st.integers(-(2**62), 2**62)),
        )
    )
)
def test_rows_are_ordered_whatever_their_range(pairs: list[tuple[int, int]]) -> None:
    """By code, then time, then row, also where a key does not fit beside its row."""
    codes = np.array([code for code, _ in pairs], dtype=np.int64)
    times = np.array([time for _, time in pairs], dtype=np.int64)
    found = order.by_code_and_time(codes, times).tolist()
    assert found == sorted(range(len(pairs)), key=lambda row: (*pairs[row], row))


@pytest.mark.parametrize("spread", [1, 1_000, 2**35, 2**50])
def test_packed_keys_are_put_right(spread: int) -> None:
    """Many rows whose keys share their upper bits still end in order, equal keys by row."""
    random = np.random.default_rng(3)
    codes, times = random.integers(0, 300, 50_000), random.integers(-9, 9, 50_000) * spread
    times[0], times[1] = -(2**52), 2**52
    found = order.by_code_and_time(codes, times)
    assert found.tolist() == np.lexsort((times, codes)).tolist()


@given(
    times=st.lists(st.integers(-9, 9), max_size=20),
    asked=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(-11, 11))),
    after=st.booleans(),
)
def test_places_are_found_within_bounds(
    times: list[int], asked: list[tuple[int, int, int]], after: bool
) -> None:
    """A time is placed before or after its equals, and never outside of what it is looked for."""
    times.sort()
    bounds = [sorted((min(a, len(times)), min(b, len(times)))) for a, b, _ in asked]
    low, high = (np.array([b[i] for b in bounds], dtype=np.int64) for i in (0, 1))
    wanted = np.array([time for _, _, time in asked], dtype=np.int64)
    found = place_within(np.array(times, dtype=np.int64), low, high, wanted, after_equal=after)
    for (a, b), time, place in zip(bounds, wanted.tolist(), found.tolist(), strict=True):
        before = [t for t in times[a:b] if (t <= time if after else t < time)]
        assert place == a + len(before)
