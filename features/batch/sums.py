"""Counts, sums, means and variances as of every question; exact, rounded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.batch import covering
from features.batch.digits import (
    BITS,
    Settled,
    Whole,
    quotient,
    settled,
    squared,
    whole_floats,
    whole_integers,
)
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


class Sums:
    """What sums of numbers without nulls make as of every question; each part computed once.

    Booleans count 1 and 0.
    """

    def __init__(self, intervals: Intervals, values: pa.Array) -> None:
        self._intervals = intervals
        self._values = values
        self._is_float = pa.types.is_floating(values.type)

    def sum(self) -> Finished:
        """The sum; of integers an error where it does not fit 64 bits."""
        if self._is_float:
            return Finished(_masked(self._float_sums(()), self._counts == 0))
        return _checked_integers(self._totals, self._counts == 0)

    def mean(self) -> Finished:
        """The mean."""
        return Finished(_masked(self._float_sums((np.maximum(self._counts, 1),)), self._counts == 0))

    def variance(self) -> Finished:
        """The variance of the sample; null below two values."""
        counts = np.maximum(self._counts, 2)
        squares = _totals(self._intervals, squared(self._whole))
        spread = settled(_spread(counts, self._totals, squares))
        found = quotient(spread, 2 * self._whole.exponent, (counts, counts - 1))
        if not self._finite.all():
            special = covering.count(self._intervals.chosen(~self._finite)) > 0
            found = np.where(special, math.nan, found)
        return Finished(_masked(found, self._counts < 2))

    def stddev(self) -> Finished:
        """The standard deviation of the sample; null below two values."""
        found = self.variance().values
        roots = np.sqrt(found.fill_null(0.0).to_numpy(zero_copy_only=False))
        return Finished(_masked(roots, self._counts < 2))

    @cached_property
    def _counts(self) -> Ints:
        return covering.count(self._intervals)

    @cached_property
    def _finite(self) -> Mask:
        if not self._is_float:
            return np.ones(len(self._values), dtype=bool)
        return np.asarray(np.isfinite(self._numbers))

    @cached_property
    def _numbers(self) -> npt.NDArray[Any]:
        values = self._values if self._is_float else self._values.cast(pa.int64())
        return np.asarray(values.to_numpy(zero_copy_only=False))

    @cached_property
    def _whole(self) -> Whole:
        if not self._is_float:
            return whole_integers(self._numbers)
        finite = self._finite
        return whole_floats(self._numbers if finite.all() else np.where(finite, self._numbers, 0.0))

    @cached_property
    def _totals(self) -> list[Ints]:
        return _totals(self._intervals, self._whole)

    def _float_sums(self, divisors: Sequence[Ints]) -> Floats:
        found = _quotients(self._totals, self._whole.exponent, divisors)
        return found if self._finite.all() else self._with_specials(found)

    def _with_specials(self, found: Floats) -> Floats:
        nan, plus, minus = (
            covering.count(self._intervals.chosen(which)) > 0
            for which in (
                np.isnan(self._numbers),
                np.isposinf(self._numbers),
                np.isneginf(self._numbers),
            )
        )
        found = np.where(plus, math.inf, np.where(minus, -math.inf, found))
        return np.where(nan | (plus & minus), math.nan, found)


def _totals(intervals: Intervals, whole: Whole) -> list[Ints]:
    return [covering.total(intervals, digit) for digit in whole.digits()]


def _quotients(totals: Sequence[Ints], exponent: int, divisors: Sequence[Ints]) -> Floats:
    """The sum of the digits, times ``2**exponent``, by all divisors, each rounded once."""
    sums = totals[0]
    small = len(totals) == 1 and (not len(sums) or int(np.abs(sums).max()) <= _EXACT)
    if small and abs(exponent) < _CALM and len(divisors) <= 1:
        found: Floats = sums.astype(np.float64)
        return np.ldexp(found / divisors[0] if divisors else found, exponent)
    return quotient(settled(totals), exponent, divisors)


def _spread(counts: Ints, totals: Sequence[Ints], squares: Sequence[Ints]) -> list[Ints]:
    """The digits of n·Σx² − (Σx)², carries not settled."""
    total, square = settled(totals).digits, settled(squares).digits
    size = max(len(square), 2 * len(total) - 1)
    found = [np.zeros_like(counts) for _ in range(size)]
    for i, digit in enumerate(square):
        found[i] += counts * digit
    for i, left in enumerate(total):
        for j, right in enumerate(total):
            found[i + j] -= left * right
    return found


def _checked_integers(totals: Sequence[Ints], empty: Mask) -> Finished:
    """Sums of digits as int64, an error where they do not fit."""
    sums = np.zeros_like(totals[0])
    for i, total in enumerate(totals):
        sums += total << (BITS * i)  # right modulo 2**64
    errors = np.zeros(len(sums), dtype=bool) if len(totals) == 1 else ~_fits(settled(totals))
    held = _masked(sums, empty | errors)
    return Finished(held, errors if errors.any() else None)


def _fits(number: Settled) -> Mask:
    """Whether it is an integer of 64 bits; digit 2 begins with bit 52."""
    digits, limit = number.digits, 1 << (63 - 2 * BITS)
    least = number.negative & (digits[2] == limit) & (digits[:2] == 0).all(axis=0)
    fits = (digits[2] < limit) | least
    return np.asarray(fits & (digits[3:] == 0).all(axis=0))


def _masked(values: npt.NDArray[Any], hidden: Mask) -> pa.Array:
    return pa.array(values, mask=hidden)
