"""What each aggregation keeps of the values it has seen, and what it makes of that in the end.

A partial is a plain value that nobody changes: ``add`` and ``merge`` return new ones. ``merge`` is
associative and commutative, and ``add`` agrees with it, so no split and no order shows in the end.
Values come without nulls and with −0.0 as 0.0.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from features.algebra import exact
from features.algebra.bytes import Reader, Writer
from features.algebra.exact import NO_SPECIALS, ZERO, Scaled, Specials
from features.errors import ValueStateError

Order = tuple[int, int, Any]
"""Where an event stands among others: event time, available time (µs), and its sequence."""
Partial = Any
INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)


class Algebra(Protocol):
    """One aggregation over values of one type."""

    def empty(self) -> Partial:
        """Of no value."""
        ...

    def add(self, partial: Partial, value: Any, order: Order) -> Partial:
        """With one value more."""
        ...

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Of the values of both."""
        ...

    def finish(self, partial: Partial) -> Any:
        """The value that people see; ValueStateError is the state ``error``."""
        ...

    def write(self, partial: Partial, out: Writer) -> None:
        """Its one binary form."""
        ...

    def read(self, data: Reader) -> Partial:
        """Back from it."""
        ...


class Count:
    """How many."""

    def empty(self) -> int:
        """Zero."""
        return 0

    def add(self, partial: int, value: Any, order: Order) -> int:
        """One more."""
        return partial + 1

    def merge(self, a: int, b: int) -> int:
        """The sum."""
        return a + b

    def finish(self, partial: int) -> int:
        """The number."""
        return partial

    def write(self, partial: int, out: Writer) -> None:
        """A whole number."""
        out.whole(partial)

    def read(self, data: Reader) -> int:
        """A whole number."""
        return data.whole()


class IntSum:
    """(count, sum) of whole numbers, exact; booleans count 1 and 0."""

    def __init__(self, kind: str) -> None:
        self._mean = kind == "mean"

    def empty(self) -> tuple[int, int]:
        """Nothing."""
        return 0, 0

    def add(self, partial: tuple[int, int], value: int, order: Order) -> tuple[int, int]:
        """One value more."""
        return partial[0] + 1, partial[1] + int(value)

    def merge(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        """Both."""
        return a[0] + b[0], a[1] + b[1]

    def finish(self, partial: tuple[int, int]) -> int | float | None:
        """The sum, or the mean rounded once; a sum beyond int64 is an error."""
        count, total = partial
        if count == 0:
            return None
        return exact.ratio(total, count) if self._mean else checked_int(total)

    def write(self, partial: tuple[int, int], out: Writer) -> None:
        """Two whole numbers."""
        out.whole(partial[0])
        out.whole(partial[1])

    def read(self, data: Reader) -> tuple[int, int]:
        """Two whole numbers."""
        return data.whole(), data.whole()


class FloatSum:
    """(count of all values, exact sum of the finite ones, the others by kind)."""

    def __init__(self, kind: str) -> None:
        self._mean = kind == "mean"

    def empty(self) -> tuple[int, Scaled, Specials]:
        """Nothing."""
        return 0, ZERO, NO_SPECIALS

    def add(self, partial: Partial, value: float, order: Order) -> Partial:
        """One value more."""
        count, total, specials = partial
        if math.isfinite(value):
            return count + 1, exact.plus(total, scaled(value)), specials
        return count + 1, total, with_special(specials, value)

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Both."""
        return a[0] + b[0], exact.plus(a[1], b[1]), both_specials(a[2], b[2])

    def finish(self, partial: Partial) -> float | None:
        """The sum or mean, rounded once."""
        count, total, specials = partial
        if count == 0:
            return None
        special = exact.special_sum(specials)
        if special is not None:
            return special
        return exact.ratio(total.mantissa, count if self._mean else 1, total.exponent)

    def write(self, partial: Partial, out: Writer) -> None:
        """Count, sum, specials."""
        out.whole(partial[0])
        write_scaled(partial[1], out)
        write_specials(partial[2], out)

    def read(self, data: Reader) -> Partial:
        """Count, sum, specials."""
        return data.whole(), Scaled(data.whole(), data.whole()), read_specials(data)


class Variance:
    """(count, exact sum, exact sum of squares, specials); whole numbers are exact floats here."""

    def __init__(self, kind: str) -> None:
        self._root = kind == "stddev"

    def empty(self) -> Partial:
        """Nothing."""
        return 0, ZERO, ZERO, NO_SPECIALS

    def add(self, partial: Partial, value: float, order: Order) -> Partial:
        """One value more."""
        count, total, squares, specials = partial
        if isinstance(value, float) and not math.isfinite(value):
            return count + 1, total, squares, with_special(specials, value)
        term = scaled(value)
        square = Scaled(term.mantissa * term.mantissa, 2 * term.exponent)
        return count + 1, exact.plus(total, term), exact.plus(squares, square), specials

    def merge(self, a: Partial, b: Partial) -> Partial:
        """Both."""
        total, squares = exact.plus(a[1], b[1]), exact.plus(a[2], b[2])
        return a[0] + b[0], total, squares, both_specials(a[3], b[3])

    def finish(self, partial: Partial) -> float | None:
        """The variance of the sample, or its root; None below two values, NaN with ±inf."""
        count, total, squares, specials = partial
        if count < 2:
            return None
        if specials != NO_SPECIALS:
            return math.nan
        found = exact.variance(count, total, squares)
        return math.sqrt(found) if self._root else found

    def write(self, partial: Partial, out: Writer) -> None:
        """Count, sums, specials."""
        out.whole(partial[0])
        write_scaled(partial[1], out)
        write_scaled(partial[2], out)
        write_specials(partial[3], out)

    def read(self, data: Reader) -> Partial:
        """Count, sums, specials."""
        return data.whole(), read_scaled(data), read_scaled(data), read_specials(data)


class Extreme:
    """The least or the greatest value, alone in a tuple; NaN spreads."""

    def __init__(self, kind: str) -> None:
        self._greatest = kind == "max"

    def empty(self) -> tuple[Any, ...]:
        """Nothing."""
        return ()

    def add(self, partial: tuple[Any, ...], value: Any, order: Order) -> tuple[Any, ...]:
        """One value more."""
        return self.merge(partial, (value,))

    def merge(self, a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
        """The one of both."""
        if not a or not b:
            return a or b
        if is_nan(a[0]) or is_nan(b[0]):
            return (math.nan,)
        return a if (a[0] >= b[0]) == self._greatest else b

    def finish(self, partial: tuple[Any, ...]) -> Any:
        """The value."""
        return partial[0] if partial else None

    def write(self, partial: tuple[Any, ...], out: Writer) -> None:
        """The value or None."""
        out.value(partial[0] if partial else None)

    def read(self, data: Reader) -> tuple[Any, ...]:
        """The value or None."""
        value = data.value()
        return () if value is None else (value,)


class Ends:
    """The first or last ``k`` values with where they stand; two equal events are two."""

    def __init__(self, kind: str, k: int | None) -> None:
        self._newest_first = kind == "last"
        self._single = k is None
        self._k = k or 1

    def empty(self) -> tuple[Any, ...]:
        """Nothing."""
        return ()

    def add(self, partial: Partial, value: Any, order: Order) -> Partial:
        """One value more."""
        return self.merge(partial, ((*order, value),))

    def merge(self, a: Partial, b: Partial) -> Partial:
        """The outermost of both."""
        if not a or not b:
            return a or b
        if self._k == 1:
            one, other = a[0], b[0]
            if one[0] == other[0]:
                one, other = event_key(one), event_key(other)
            return a if (one >= other) == self._newest_first else b
        together = sorted(a + b, key=event_key, reverse=self._newest_first)
        return tuple(together[: self._k])

    def finish(self, partial: Partial) -> Any:
        """The value, or the list of them: last newest first, first oldest first."""
        if not partial:
            return None
        return partial[0][3] if self._single else [event[3] for event in partial]

    def write(self, partial: Partial, out: Writer) -> None:
        """Times, sequence and value of each."""
        out.whole(len(partial))
        for time, available, sequence, value in partial:
            out.times(time, available)
            out.value(sequence)
            out.value(value)

    def read(self, data: Reader) -> Partial:
        """Times, sequence and value of each."""
        size = data.whole()
        if size == 1:
            return ((*data.times(), data.value(), data.value()),)
        return tuple([(*data.times(), data.value(), data.value()) for _ in range(size)])


class TopK:
    """The ``k`` largest values, largest first, duplicates kept; NaN is the lowest."""

    def __init__(self, k: int) -> None:
        self._k = k

    def empty(self) -> tuple[Any, ...]:
        """Nothing."""
        return ()

    def add(self, partial: Partial, value: Any, order: Order) -> Partial:
        """One value more."""
        return self.merge(partial, (value,))

    def merge(self, a: Partial, b: Partial) -> Partial:
        """The largest of both."""
        return tuple(sorted(a + b, key=value_key, reverse=True)[: self._k])

    def finish(self, partial: Partial) -> list[Any] | None:
        """The list."""
        return list(partial) or None

    def write(self, partial: Partial, out: Writer) -> None:
        """A list."""
        out.value(list(partial))

    def read(self, data: Reader) -> Partial:
        """A list."""
        return tuple(data.value())


def scaled(value: float) -> Scaled:
    """A finite number as a scaled integer."""
    numerator, denominator = value.as_integer_ratio()
    return exact.normal(numerator, 1 - denominator.bit_length())


def with_special(specials: Specials, value: float) -> Specials:
    """With one NaN or infinity more."""
    if value != value:
        return specials._replace(nan=specials.nan + 1)
    if value > 0:
        return specials._replace(plus=specials.plus + 1)
    return specials._replace(minus=specials.minus + 1)


def both_specials(a: Specials, b: Specials) -> Specials:
    """Those of both."""
    if a == NO_SPECIALS:
        return b
    return Specials(a.nan + b.nan, a.plus + b.plus, a.minus + b.minus)


def checked_int(value: int) -> int:
    """The value; ValueStateError beyond int64."""
    if INT64_MIN <= value <= INT64_MAX:
        return value
    raise ValueStateError("a sum is beyond 64 bits")


def is_nan(value: Any) -> bool:
    """Whether a value is NaN."""
    return isinstance(value, float) and value != value


def value_key(value: Any) -> tuple[bool, Any]:
    """Sorts values of one type: NaN lowest, text by code point, false before true."""
    return (False, 0) if is_nan(value) else (True, value)


def event_key(event: tuple[int, int, Any, Any]) -> tuple[Any, ...]:
    """Sorts events: event time, available time, sequence (null lowest), value."""
    time, available, sequence, value = event
    known = (False, 0) if sequence is None else (True, sequence)
    return time, available, known, value_key(value)


def write_scaled(value: Scaled, out: Writer) -> None:
    """Mantissa and exponent."""
    out.whole(value.mantissa)
    out.whole(value.exponent)


def read_scaled(data: Reader) -> Scaled:
    """Mantissa and exponent."""
    return Scaled(data.whole(), data.whole())


def write_specials(value: Specials, out: Writer) -> None:
    """A zero, or one and the three counts."""
    if value == NO_SPECIALS:
        out.whole(0)
        return
    out.whole(1)
    for count in value:
        out.whole(count)


def read_specials(data: Reader) -> Specials:
    """A zero, or one and the three counts."""
    return Specials(data.whole(), data.whole(), data.whole()) if data.whole() else NO_SPECIALS
