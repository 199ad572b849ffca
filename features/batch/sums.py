"""Counts, sums, means and variances as of every question; exact, rounded once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.algebra import exact
from features.algebra.exact import Scaled
from features.algebra.kinds import INT64_MAX, INT64_MIN
from features.batch import covering
from features.batch.queries import Intervals, Ints, Mask

Floats = npt.NDArray[np.float64]
_EXACT = 1 << 53
_CALM = 900
"""Below this exponent a quotient of numbers of 53 bits can be scaled without rounding again."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One value per question; where ``errors`` is true it could not be computed and is null."""

    values: pa.Array
    errors: Mask | None = None


def counted(intervals: Intervals) -> Finished:
    """How many events cover each question."""
    return Finished(pa.array(covering.count(intervals)))


def summed(kind: str, intervals: Intervals, values: pa.Array) -> Finished:
    """Sum or mean of numbers without nulls; booleans count 1 and 0."""
    counts = covering.count(intervals)
    if pa.types.is_floating(values.type):
        return _summed_floats(kind, intervals, values.to_numpy(zero_copy_only=False), counts)
    whole = values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    sums = covering.total(intervals, whole)
    if kind == "mean":
        return Finished(_masked(_quotients(sums, counts, 0), counts == 0))
    return _checked_ints(sums, counts == 0)


def spread_out(kind: str, intervals: Intervals, values: pa.Array) -> Finished:
    """Variance or standard deviation of the sample; null below two values."""
    counts = covering.count(intervals)
    floats = pc.cast(values, pa.float64(), safe=False)
    numbers = floats.to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    if pa.types.is_integer(values.type):
        multiples: Any = values.to_pylist()
        exponent = 0
    else:
        multiples, exponent = exact.scaled_integers(np.where(finite, numbers, 0.0))
        multiples = multiples if isinstance(multiples, list) else multiples.tolist()
    sums = covering.total(intervals, list(multiples))
    squares = covering.total(intervals, [m * m for m in multiples])
    special = covering.count(intervals.chosen(~finite)) > 0
    found = [
        _variance(n, s, s2, exponent, kind == "stddev") if n >= 2 else 0.0
        for n, s, s2 in zip(counts.tolist(), sums.tolist(), squares.tolist(), strict=True)
    ]
    result = np.where(special, math.nan, np.asarray(found, dtype=np.float64))
    return Finished(_masked(result, counts < 2))


def _variance(count: int, total: int, squares: int, exponent: int, root: bool) -> float:
    found = exact.variance(count, Scaled(int(total), exponent), Scaled(int(squares), 2 * exponent))
    return math.sqrt(found) if root else found


def _summed_floats(kind: str, intervals: Intervals, values: Floats, counts: Ints) -> Finished:
    finite = np.isfinite(values)
    multiples, exponent = exact.scaled_integers(np.where(finite, values, 0.0))
    sums = covering.total(intervals, multiples)
    divisors = counts if kind == "mean" else np.ones_like(counts)
    result = _quotients(sums, divisors, exponent)
    if not finite.all():
        result = _with_specials(result, intervals, values)
    return Finished(_masked(result, counts == 0))


def _with_specials(result: Floats, intervals: Intervals, values: Floats) -> Floats:
    nan = covering.count(intervals.chosen(np.isnan(values)))
    plus = covering.count(intervals.chosen(np.isposinf(values)))
    minus = covering.count(intervals.chosen(np.isneginf(values)))
    result = np.where(plus > 0, math.inf, np.where(minus > 0, -math.inf, result))
    return np.where((nan > 0) | ((plus > 0) & (minus > 0)), math.nan, result)


def _quotients(sums: npt.NDArray[Any], divisors: Ints, exponent: int) -> Floats:
    """``sums / divisors · 2**exponent``, each rounded once; 0 where the divisor is 0."""
    safe = np.where(divisors == 0, 1, divisors)
    small = sums.dtype != object and (not len(sums) or int(np.abs(sums).max()) <= _EXACT)
    if small and abs(exponent) < _CALM:
        quotient: Floats = np.ldexp(sums.astype(np.float64) / safe, exponent)
        return quotient
    pairs = zip(sums.tolist(), safe.tolist(), strict=True)
    return np.array([exact.ratio(s, n, exponent) for s, n in pairs], dtype=np.float64)


def _checked_ints(sums: npt.NDArray[Any], empty: Mask) -> Finished:
    if sums.dtype != object:
        return Finished(_masked(sums, empty))
    errors = np.array([not INT64_MIN <= s <= INT64_MAX for s in sums.tolist()], dtype=bool)
    held = np.where(errors, 0, sums).astype(np.int64)
    return Finished(_masked(held, empty | errors), errors if errors.any() else None)


def _masked(values: npt.NDArray[Any], hidden: Mask) -> pa.Array:
    return pa.array(values, mask=hidden)
