"""Exact sums of floats: a scaled integer that no order and no split of the values can change.

A finite float is ``mantissa · 2**exponent`` with whole numbers. The sum of many is one too, kept
with an odd mantissa (or 0 · 2**0), so equal sums have equal bytes. NaN and the infinities are
counted beside it. ``finish`` rounds once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_MANTISSA_BITS = 53


class Scaled(NamedTuple):
    """``mantissa · 2**exponent``; the mantissa is odd, or both are 0."""

    mantissa: int
    exponent: int


ZERO = Scaled(0, 0)


class Specials(NamedTuple):
    """How many values were NaN, +inf and −inf."""

    nan: int = 0
    plus: int = 0
    minus: int = 0


NO_SPECIALS = Specials()


def normal(mantissa: int, exponent: int) -> Scaled:
    """The canonical form of ``mantissa · 2**exponent``."""
    if mantissa == 0:
        return ZERO
    zeros = (mantissa & -mantissa).bit_length() - 1
    return Scaled(mantissa >> zeros, exponent + zeros)


def plus(a: Scaled, b: Scaled) -> Scaled:
    """The exact sum."""
    if a.mantissa == 0:
        return b
    if b.mantissa == 0:
        return a
    low = min(a.exponent, b.exponent)
    total = (a.mantissa << (a.exponent - low)) + (b.mantissa << (b.exponent - low))
    return normal(total, low)


def scaled_integers(values: Floats) -> tuple[list[int] | npt.NDArray[np.int64], int]:
    """Finite floats as whole multiples of one power of two: (multiples, exponent), exactly.

    The multiples are int64 where they all are below 2**53, else Python's integers.
    """
    if not len(values):
        return np.zeros(0, dtype=np.int64), 0
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, _MANTISSA_BITS).astype(np.int64)
    lowest = whole & -whole
    zeros = np.where(whole == 0, 0, np.frexp(lowest.astype(np.float64))[1] - 1)
    exponent = np.where(whole == 0, 2_000, exponents.astype(np.int64) - _MANTISSA_BITS + zeros)
    low = int(exponent.min())
    if low == 2_000:
        return np.zeros(len(values), dtype=np.int64), 0
    if int(exponents[whole != 0].max()) - low <= _MANTISSA_BITS:
        return np.ldexp(values, -low).astype(np.int64), low
    shifts = np.where(whole == 0, 0, exponent - low)
    odd = whole >> zeros
    return [m << s for m, s in zip(odd.tolist(), shifts.tolist(), strict=True)], low


def total(values: Floats) -> Scaled:
    """The exact sum of finite floats."""
    multiples, exponent = scaled_integers(values)
    return normal(_whole_sum(multiples), exponent)


def total_of_squares(values: Floats) -> Scaled:
    """The exact sum of the squares of finite floats."""
    multiples, exponent = scaled_integers(values)
    whole = multiples if isinstance(multiples, list) else multiples.tolist()
    return normal(sum(m * m for m in whole), 2 * exponent)


def specials_of(values: Floats) -> Specials:
    """Counts of NaN, +inf and −inf."""
    infinite = np.isinf(values)
    return Specials(
        int(np.isnan(values).sum()),
        int((infinite & (values > 0)).sum()),
        int((infinite & (values < 0)).sum()),
    )


def _whole_sum(multiples: list[int] | npt.NDArray[np.int64]) -> int:
    """Sums of int64 below 2**53 are exact in int64 for up to 512 values; beyond, in parts."""
    if isinstance(multiples, list):
        return sum(multiples)
    parts: Iterable[int] = (
        int(multiples[i : i + 512].sum()) for i in range(0, len(multiples), 512)
    )
    return sum(parts)


def to_float(value: Scaled) -> float:
    """The nearest float, ties to even; ±inf beyond the range."""
    return ratio(value.mantissa, 1, value.exponent)


def ratio(numerator: int, denominator: int, exponent: int = 0) -> float:
    """``numerator / denominator · 2**exponent``, rounded once; ±inf beyond the range."""
    try:
        if exponent >= 0:
            return (numerator << exponent) / denominator
        return numerator / (denominator << -exponent)
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def special_sum(specials: Specials) -> float | None:
    """What NaN and infinities make of a sum; None if there are none."""
    if specials == NO_SPECIALS:
        return None
    if specials.nan or (specials.plus and specials.minus):
        return math.nan
    return math.inf if specials.plus else -math.inf


def variance(count: int, total: Scaled, squares: Scaled) -> float:
    """The variance of a sample of finite values from exact sums, rounded once; count ≥ 2."""
    low = min(2 * total.exponent, squares.exponent)
    squared = total.mantissa * total.mantissa << (2 * total.exponent - low)
    spread = count * (squares.mantissa << (squares.exponent - low)) - squared
    return ratio(spread, count * (count - 1), low)
