"""Numbers taken apart into columns of digits, so that sums of any floats are exact and vectorised.

A finite float is ``m · 2**e`` with whole numbers; as a multiple of one power of two, all floats of
a block are whole numbers, too long for 64 bits. Their digits to the base 2**26 are not: digit by
digit they are summed in int64, carries are settled in the end, and the sum, or a quotient of it, is
rounded to a float once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features.batch.queries import Ints, Mask

Floats = npt.NDArray[np.float64]
BITS = 26
_MASK = (1 << BITS) - 1
_SAFE_BITS = 62
_FRACTION_BITS, _BIAS = 52, 1_075
_HIDDEN = 1 << _FRACTION_BITS
_BLOCK = 1 << 17
"""Values that are taken apart at a time; so many stay in the processor's cache."""
_NUMBERS = 1 << 14
"""Numbers that are rounded at a time, with all their digits."""
_KEPT = 6
"""Digits of a sum that decide how it, or its quotient by up to 2**74, is rounded."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A column of whole multiples of ``2**exponent``: value = Σ parts · 2**(26 · (place + i)).

    ``parts`` are columns by i; ``place`` is by value, or None for 0 everywhere. Every part may be
    summed over the whole column in int64.
    """

    parts: tuple[npt.NDArray[Any], ...]
    place: npt.NDArray[np.int16] | None
    exponent: int

    def digits(self) -> Iterator[Ints]:
        """The columns to sum, from the lowest digit."""
        if self.place is None:
            yield from (part.astype(np.int64, copy=False) for part in self.parts)
            return
        places = set(np.flatnonzero(np.bincount(self.place)).tolist())
        for digit in range(max(places) + len(self.parts)):
            column = np.zeros(len(self.place), dtype=np.int64)
            for i, part in enumerate(self.parts):
                if digit - i in places:
                    np.copyto(column, part, where=self.place == digit - i)
            yield column


def whole_floats(values: Floats) -> Whole:
    """Finite floats as multiples of one power of two."""
    found = (_scale(values[block]) for block in _blocks(len(values)))
    scales = [scale for scale in found if scale is not None]
    if not scales:
        return Whole((np.zeros(len(values), dtype=np.int64),), None, 0)
    lowest, top = min(s.lowest for s in scales), max(s.top for s in scales)
    if top - lowest + len(values).bit_length() <= _SAFE_BITS:
        return Whole((np.ldexp(values, -lowest).astype(np.int64),), None, lowest)
    low = min(s.least for s in scales)
    parts = tuple(np.empty(len(values), dtype=np.int32) for _ in range(3))
    place = np.empty(len(values), dtype=np.int16)
    for block in _blocks(len(values)):
        place[block] = _fill([part[block] for part in parts], values[block], low)
    return Whole(parts, place if place.any() else None, low)


def whole_integers(values: Ints) -> Whole:
    """Integers of 64 bits as they are, or as digits where their sum might not fit."""
    if not len(values):
        return Whole((values,), None, 0)
    greatest = max(int(values.max()), -int(values.min()))
    if greatest.bit_length() + len(values).bit_length() <= _SAFE_BITS:
        return Whole((values,), None, 0)
    return Whole(_three_digits(values), None, 0)


def squared(whole: Whole) -> Whole:
    """The squares of a column."""
    parts = whole.parts
    if len(parts) == 1:
        greatest = int(np.abs(parts[0]).max()) if len(parts[0]) else 0
        if 2 * greatest.bit_length() + len(parts[0]).bit_length() <= _SAFE_BITS:
            return Whole((parts[0] * parts[0],), None, 2 * whole.exponent)
        parts = _three_digits(parts[0])
    place = None if whole.place is None else whole.place * np.int16(2)
    return Whole(_square_digits(parts), place, 2 * whole.exponent)


class _Scale(NamedTuple):
    """Of some floats that are not 0: the greatest power of two that divides them all, the least
    exponent, and one that exceeds them all."""

    lowest: int
    least: int
    top: int


def _scale(values: Floats) -> _Scale | None:
    mantissas, exponents = _taken_apart(values)
    present = mantissas != 0
    mantissas, exponents = mantissas[present], exponents[present]
    if not len(mantissas):
        return None
    zeros = np.bitwise_count((mantissas & -mantissas) - 1)
    top = int(exponents.max()) + _FRACTION_BITS + 1
    return _Scale(int((exponents + zeros).min()), int(exponents.min()), top)


def _taken_apart(values: Floats) -> tuple[Ints, Ints]:
    """Mantissas without sign (below 2**53) and exponents: |value| = mantissa · 2**exponent."""
    bits = np.ascontiguousarray(values).view(np.int64)
    exponents = (bits >> _FRACTION_BITS) & 0x7FF
    mantissas = bits & (_HIDDEN - 1)
    mantissas += np.where(exponents > 0, _HIDDEN, 0)
    return mantissas, np.maximum(exponents, 1) - _BIAS


def _fill(parts: Sequence[npt.NDArray[np.int32]], values: Floats, low: int) -> Ints:
    """Writes the three digits of each value as a multiple of ``2**low``; returns their places."""
    mantissas, exponents = _taken_apart(values)
    place, offset = np.divmod(np.where(mantissas == 0, 0, exponents - low), BITS)
    lower = (mantissas & _MASK) << offset
    upper = ((mantissas >> BITS) << offset) + (lower >> BITS)
    signs = np.where(values < 0, -1, 1)
    for part, digit in zip(parts, (lower & _MASK, upper & _MASK, upper >> BITS), strict=True):
        np.multiply(digit, signs, out=part, casting="unsafe")
    return place


def _blocks(size: int, most: int = _BLOCK) -> Iterator[slice]:
    return (slice(i, i + most) for i in range(0, size, most))


def _three_digits(values: Ints) -> tuple[npt.NDArray[np.int32], ...]:
    size = np.abs(values).view(np.uint64)  # |−2**63| is 2**63 without a sign
    signs = np.where(values < 0, -1, 1)
    digits = size & np.uint64(_MASK), (size >> np.uint64(BITS)) & np.uint64(_MASK)
    highest = size >> np.uint64(2 * BITS)
    return tuple((d.astype(np.int64) * signs).astype(np.int32) for d in (*digits, highest))


def _square_digits(parts: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[np.int32], ...]:
    """The six digits of the squares of numbers of three."""
    size = len(parts[0])
    digits = tuple(np.empty(size, dtype=np.int32) for _ in range(6))
    for block in _blocks(size):
        a, b, c = (part[block].astype(np.int64) for part in parts)
        terms = (a * a, 2 * a * b, 2 * a * c + b * b, 2 * b * c, c * c)
        carry = np.zeros(len(a), dtype=np.int64)
        for digit, term in zip(digits, terms, strict=False):
            carry += term
            digit[block] = carry & _MASK
            carry >>= BITS
        digits[-1][block] = carry
    return digits


@dataclass(frozen=True, slots=True)
class Settled:
    """Whole numbers as digits from 0 to 2**26 − 1, lowest first, as (digits, numbers)."""

    digits: Ints
    negative: Mask


def settled(columns: Sequence[Ints]) -> Settled:
    """Carries settled: from sums of digits, of any sign and below 2**62, to sign and digits."""
    digits, carry = _carried(columns)
    negative = carry < 0
    if negative.any():
        signs = np.where(negative, -1, 1)
        digits, _ = _carried([*(digits * signs), carry * signs])
    return Settled(digits, negative)


def _carried(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Digits from 0 on, and what is left above them: 0 or −1."""
    digits = []
    carry = np.zeros_like(columns[0])
    for column in columns:
        carry = carry + column
        digits.append(carry & _MASK)
        carry >>= BITS
    while not bool(((carry == 0) | (carry == -1)).all()):
        digits.append(carry & _MASK)
        carry >>= BITS
    return np.stack(digits), carry


def in_blocks(size: int, work: Callable[[slice], Floats]) -> Floats:
    """The floats that ``work`` gives for ``size`` numbers, some thousands of them at a time."""
    found = np.empty(size, dtype=np.float64)
    for block in _blocks(size, _NUMBERS):
        found[block] = work(block)
    return found


def quotient(number: Settled, exponent: int, divisors: Sequence[Ints] = ()) -> Floats:
    """``number · 2**exponent`` divided by all divisors (1 to 2**37), rounded once; ±inf beyond."""
    digits, place, rest = _leading(number.digits)
    for divisor in divisors:
        rest |= _divide(digits, divisor)
    size = _rounded(digits, exponent + BITS * place, rest)
    return np.where(number.negative, -size, size)


def _leading(digits: Ints) -> tuple[Ints, Ints, Mask]:
    """The highest digits from the first that is not 0, the place of the lowest of them (which may
    be below 0), and whether anything follows."""
    padded = np.concatenate([np.zeros((_KEPT, digits.shape[1]), dtype=np.int64), digits])
    held = padded != 0
    top = len(padded) - 1 - np.argmax(held[::-1], axis=0)
    top = np.maximum(top, _KEPT - 1)
    rows = top - np.arange(_KEPT)[:, None]
    kept = np.take_along_axis(padded, rows, axis=0)
    below = np.logical_or.accumulate(held, axis=0)
    lowest = rows[-1]
    rest = (lowest > 0) & np.take_along_axis(below, np.maximum(lowest - 1, 0)[None], axis=0)[0]
    return kept, lowest - _KEPT, rest


def _divide(digits: Ints, divisor: Ints) -> Mask:
    """Divides in place, highest digit first; whether a remainder is left."""
    remainder = np.zeros(digits.shape[1], dtype=np.int64)
    for i in range(len(digits)):
        part = (remainder << BITS) | digits[i]
        digits[i] = part // divisor
        remainder = part - digits[i] * divisor
    return np.asarray(remainder != 0)


def _rounded(digits: Ints, exponent: Ints, rest: Mask) -> Floats:
    """Digits, highest first, as floats, ``exponent`` being that of the lowest; ties to even.

    ``rest`` says that something smaller follows. At least 55 bits are there, unless all is.
    """
    size = len(digits)
    lead = np.argmax(digits != 0, axis=0)
    padded = np.concatenate([digits, np.zeros((4, digits.shape[1]), dtype=np.int64)])
    a, b, c, d = np.take_along_axis(padded, lead + np.arange(4)[:, None], axis=0)
    below = np.logical_or.accumulate((padded != 0)[::-1], axis=0)[::-1]
    rest = rest | np.take_along_axis(below, np.minimum(lead + 4, size + 3)[None], axis=0)[0]
    upper, lower = (a << BITS) | b, (c << BITS) | d
    length = np.frexp(upper.astype(np.float64))[1].astype(np.int64)
    shift = np.minimum(_SAFE_BITS - length, 2 * BITS)
    cut = 2 * BITS - shift
    mantissa = (upper << shift) | (lower >> cut)
    rest |= (lower & ((1 << cut) - 1)) != 0
    return _nearest(mantissa, exponent + BITS * (size - 4 - lead) + cut, rest)


def _nearest(mantissa: Ints, exponent: Ints, rest: Mask) -> Floats:
    """``mantissa · 2**exponent`` for mantissas of 62 bits (or 0), where ``rest`` a little more."""
    mantissa = mantissa | rest
    with np.errstate(over="ignore"):  # beyond the range is infinite
        return _scaled(mantissa, exponent)


def _scaled(mantissa: Ints, exponent: Ints) -> Floats:
    tiny = (mantissa != 0) & (exponent + _SAFE_BITS <= -1_022)
    if not tiny.any():
        return np.ldexp(mantissa.astype(np.float64), exponent)
    # Below the normal range fewer bits are kept: rounding to 53 first would round twice.
    drop = np.clip(-1_074 - exponent - 2, 0, _SAFE_BITS + 1)
    quarters = (mantissa >> drop) | ((mantissa & ((1 << drop) - 1)) != 0)
    whole = (quarters + 1 + ((quarters >> 2) & 1)) >> 2
    return np.where(
        tiny,
        np.ldexp(whole.astype(np.float64), -1_074),
        np.ldexp(mantissa.astype(np.float64), np.where(tiny, 0, exponent)),
    )
