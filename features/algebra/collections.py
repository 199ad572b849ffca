"""Aggregations that keep many values: distinct, histogram, quantiles, and a map per group.

Each is bounded; beyond its bound the partial is ``OVER`` for ever, in whatever order it got there.
"""

from __future__ import annotations

import math
from typing import Any

from features.aggregations import MAX_DISTINCT, MAX_GROUPS, MAX_HISTOGRAM
from features.algebra.bytes import Reader, Writer
from features.algebra.kinds import Algebra, Order, Partial, is_nan
from features.errors import ValueStateError

OVER = "over"
_OCTAVE = 64
"""Buckets from one power of two to the next: a bucket's middle is within 1/128 of its values."""


class Bounded:
    """A map from values (or groups) to partials of an inner algebra, up to a number of entries."""

    def __init__(self, inner: Algebra, bound: int, what: str) -> None:
        self._inner = inner
        self._bound = bound
        self._what = what

    def empty(self) -> Partial:
        """No entry."""
        return {}

    def with_entry(self, partial: Partial, entry: Any, value: Any, order: Order) -> Partial:
        """With one value more in an entry; a value of None only makes the entry."""
        if partial == OVER:
            return OVER
        known = partial.get(entry)
        held = self._inner.empty() if known is None else known
        held = held if value is None else self._inner.add(held, value, order)
        return self._checked({**partial, entry: held})

    def merge(self, a: Partial, b: Partial) -> Partial:
        """The entries of both."""
        if OVER in (a, b):
            return OVER
        merged = dict(a)
        for entry, held in b.items():
            known = merged.get(entry)
            merged[entry] = held if known is None else self._inner.merge(known, held)
        return self._checked(merged)

    def entries(self, partial: Partial) -> dict[Any, Any]:
        """Entries in order. Raises ValueStateError beyond the bound."""
        if partial == OVER:
            raise ValueStateError(f"more than {self._bound:,} {self._what}")
        return {entry: partial[entry] for entry in sorted(partial, key=entry_key)}

    def write(self, partial: Partial, out: Writer) -> None:
        """Entries in order, each with its partial; −1 beyond the bound."""
        if partial == OVER:
            out.whole(-1)
            return
        entries = self.entries(partial)
        out.whole(len(entries))
        for entry, held in entries.items():
            out.value(entry)
            self._inner.write(held, out)

    def read(self, data: Reader) -> Partial:
        """Entries with their partials."""
        size = data.whole()
        if size < 0:
            return OVER
        return {data.value(): self._inner.read(data) for _ in range(size)}

    def _checked(self, entries: dict[Any, Any]) -> Partial:
        return OVER if len(entries) > self._bound else entries


class Distinct(Bounded):
    """How many different values; NaN is one."""

    def __init__(self, counter: Algebra) -> None:
        super().__init__(counter, MAX_DISTINCT, "distinct values")

    def add(self, partial: Partial, value: Any, order: Order) -> Partial:
        """One value more."""
        return self.with_entry(partial, named_nan(value), 1, order)

    def finish(self, partial: Partial) -> int:
        """The number; ValueStateError beyond the bound."""
        return len(self.entries(partial))


class Histogram(Bounded):
    """How often each value came, by its text; NaN is one value."""

    def __init__(self, counter: Algebra) -> None:
        super().__init__(counter, MAX_HISTOGRAM, "values in a histogram")

    def add(self, partial: Partial, value: Any, order: Order) -> Partial:
        """One value more."""
        return self.with_entry(partial, named_nan(value), 1, order)

    def finish(self, partial: Partial) -> dict[str, int]:
        """Counts by the value's text, in the order of the texts; ValueStateError beyond it."""
        counts = {value_text(value): count for value, count in self.entries(partial).items()}
        return dict(sorted(counts.items()))


class Quantiles:
    """How many values fell into each bucket: 64 from one power of two to the next.

    As HdrHistogram's log-linear buckets; exact in binary, so every machine buckets alike, and the
    middle of a bucket is within 0.8 % of each of its values.
    """

    def __init__(self, quantiles: tuple[float, ...]) -> None:
        self._quantiles = quantiles

    def empty(self) -> Partial:
        """No value."""
        return {}

    def add(self, partial: Partial, value: float, order: Order) -> Partial:
        """One value more."""
        bucket = bucket_of(value)
        return {**partial, bucket: partial.get(bucket, 0) + 1}

    def merge(self, a: Partial, b: Partial) -> Partial:
        """The counts of both."""
        merged = dict(a)
        for bucket, count in b.items():
            merged[bucket] = merged.get(bucket, 0) + count
        return merged

    def finish(self, partial: Partial) -> list[float] | None:
        """The middles of the buckets that hold the nearest ranks."""
        if not partial:
            return None
        ordered = sorted(partial.items())
        total = sum(partial.values())
        return [_at_rank(ordered, nearest_rank(q, total)) for q in self._quantiles]

    def write(self, partial: Partial, out: Writer) -> None:
        """Buckets in order with their counts."""
        out.whole(len(partial))
        for bucket, count in sorted(partial.items()):
            out.whole(bucket)
            out.whole(count)

    def read(self, data: Reader) -> Partial:
        """Buckets with their counts."""
        return {data.whole(): data.whole() for _ in range(data.whole())}


class Grouped(Bounded):
    """A map: the inner aggregation for every value of a column."""

    def __init__(self, inner: Algebra, is_count: bool) -> None:
        super().__init__(inner, MAX_GROUPS, "groups")
        self._is_count = is_count

    def finish(self, partial: Partial) -> dict[str, Any] | None:
        """Values by the group's text, nulls left out; None (counts: an empty map) without any."""
        entries = self.entries(partial)
        finished = {value_text(g): self._inner.finish(held) for g, held in entries.items()}
        kept = {g: finished[g] for g in sorted(finished) if finished[g] is not None}
        return kept if kept or self._is_count else None


def named_nan(value: Any) -> Any:
    """The value as an entry: None stands for NaN, which equals nothing; there are no nulls."""
    return None if is_nan(value) else value


def entry_key(entry: Any) -> tuple[bool, Any]:
    """Sorts entries: NaN first, then the values."""
    return (False, 0) if entry is None else (True, entry)


def value_text(value: Any) -> str:
    """A value as the key of a map: text as it is, numbers as written in JSON."""
    if value is None:
        return "nan"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


_ZERO_BUCKET = 0
_OFFSET = 1_100 * _OCTAVE
"""Added to a bucket's number so that those of positive values are all above zero."""
_INFINITE = _OFFSET + 1_100 * _OCTAVE
_NAN_BUCKET = -_INFINITE - 1


def bucket_of(value: float) -> int:
    """The number of a value's bucket; numbers are in the order of the values, NaN lowest."""
    value = float(value)
    if value != value:
        return _NAN_BUCKET
    if value == 0:
        return _ZERO_BUCKET
    if math.isinf(value):
        return _INFINITE if value > 0 else -_INFINITE
    fraction, exponent = math.frexp(abs(value))
    bucket = _OFFSET + exponent * _OCTAVE + int((fraction - 0.5) * 2 * _OCTAVE)
    return bucket if value > 0 else -bucket


def middle_of(bucket: int) -> float:
    """The middle of a bucket."""
    if bucket == _NAN_BUCKET:
        return math.nan
    if bucket == _ZERO_BUCKET:
        return 0.0
    if abs(bucket) == _INFINITE:
        return math.copysign(math.inf, bucket)
    exponent, place = divmod(abs(bucket) - _OFFSET, _OCTAVE)
    middle = 0.5 + (place + 0.5) / (2 * _OCTAVE)
    return math.copysign(_scaled(middle, exponent), bucket)


def _scaled(fraction: float, exponent: int) -> float:
    try:
        return math.ldexp(fraction, exponent)
    except OverflowError:
        return math.inf


def nearest_rank(quantile: float, total: int) -> int:
    """Which of ``total`` sorted values, from 1, is the quantile: ``ceil(q · n)``, at least 1."""
    return max(1, math.ceil(quantile * total))


def _at_rank(ordered: list[tuple[int, int]], rank: int) -> float:
    seen = 0
    for bucket, count in ordered:
        seen += count
        if seen >= rank:
            return middle_of(bucket)
    return middle_of(ordered[-1][0])
