"""What enters from a log: events typed and judged, each by itself and by nothing else.

An event becomes available when it is appended: its source's available_at column is set to that
time, by which nothing in a partition ever becomes known before something that stands in front of
it. Whoever says that his event becomes available much later is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.dtypes import DType, to_arrow
from features.durations import DAY
from features.errors import BadInput, DefinitionError
from features.offline.ingest import FILE, REASON
from features.offline.lake import OFFSET, PARTITION
from features.sources import Source
from features.stream.log import NO_ROW, Event
from features.values import checked_value

OUTCOMES = ("accepted", "late", "malformed", "refused", "duplicates", "erased")
"""What becomes of an event; every event that was read is one of these."""
ACCEPTED, LATE, MALFORMED, REFUSED, DUPLICATE, ERASED = range(len(OUTCOMES))

Outcomes = npt.NDArray[np.int8]

_EXACT: dict[DType, frozenset[type]] = {
    "bool": frozenset({bool, type(None)}),
    "float": frozenset({float, type(None)}),
    "int": frozenset({int, type(None)}),
    "str": frozenset({str, type(None)}),
    "time": frozenset({int, type(None)}),
}
# The years 1 to 9999: no calendar goes further, and no lake keeps what lies beyond.
_FIRST_TIME, _LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Block:
    """Events in the order of the log, with what becomes of each.

    ``events`` has the source's columns and each event's place in the log. ``outcomes`` are places
    in OUTCOMES, ``reasons`` are by row. ``end`` is the offset after the last one, ``newest`` when
    it was appended, UTC µs. ``ids`` are digests of event ids, None where nobody asked for them.
    """

    events: pa.Table
    outcomes: Outcomes
    reasons: Mapping[int, str]
    end: int
    newest: int
    ids: Sequence[bytes | None] | None = None

    def with_ids(self, ids: Sequence[bytes | None], outcomes: Outcomes) -> Block:
        """The same events once their ids were looked at."""
        return replace(self, ids=ids, outcomes=outcomes)

    @property
    def accepted(self) -> pa.Table:
        """The events that enter."""
        return self._of(self.outcomes == ACCEPTED)

    @property
    def accepted_ids(self) -> list[bytes | None] | None:
        """The ids of the events that enter."""
        return None if self.ids is None else list(compress(self.ids, self.outcomes == ACCEPTED))

    def letters(self, stream: str) -> pa.Table:
        """The dead letters with their reasons; ``stream`` stands where a file's name would."""
        dead = np.isin(self.outcomes, (LATE, MALFORMED, REFUSED))
        reasons = [self.reasons[row] for row in np.flatnonzero(dead).tolist()]
        letters = self._of(dead).append_column(REASON, pa.array(reasons, pa.string()))
        return letters.append_column(FILE, pa.repeat(stream, letters.num_rows))

    def counts(self) -> dict[str, int]:
        """How many events came to what."""
        counted = np.bincount(self.outcomes, minlength=len(OUTCOMES)).tolist()
        return dict(zip(OUTCOMES, counted, strict=True))

    def _of(self, chosen: npt.NDArray[np.bool_]) -> pa.Table:
        return self.events if chosen.all() else self.events.filter(pa.array(chosen))


class Screen:
    """Judges a source's events. ``tolerance`` is µs.

    ``quarantined``, by offset, are events that could not be computed, with their reasons: they
    count as malformed. Raises DefinitionError for a source that cannot be streamed.
    """

    def __init__(
        self,
        source: Source,
        partition: int,
        *,
        tolerance: int = DAY,
        quarantined: Mapping[int, str],
    ) -> None:
        _check(source)
        self._source = source
        self._partition = partition
        self._tolerance = tolerance
        self._quarantined = quarantined
        self._columns = source.columns

    def __call__(self, events: Sequence[Event]) -> Block:
        """One or more events, judged."""
        reasons = {
            row: reason
            for row, event in enumerate(events)
            if (reason := self._quarantined.get(event.offset)) is not None
        }
        rows = [event.row for event in events]
        columns = {
            name: _typed(name, [row.get(name) for row in rows], dtype, reasons)
            for name, dtype in self._columns.items()
        }
        appended = np.array([event.appended_at for event in events], dtype=np.int64)
        outcomes = self._judged(columns, appended, reasons)
        outcomes[[row for row, event in enumerate(events) if event.row is NO_ROW]] = ERASED
        refused = outcomes == REFUSED
        available = columns[self._source.available_at]
        columns[self._source.available_at] = _available(available, appended, refused)
        columns[PARTITION] = pa.repeat(pa.scalar(self._partition, pa.int32()), len(events))
        columns[OFFSET] = pa.array([event.offset for event in events], pa.int64())
        last = events[-1]
        return Block(pa.table(columns), outcomes, reasons, last.offset + 1, last.appended_at)

    def _judged(
        self,
        columns: Mapping[str, pa.Array],
        appended: npt.NDArray[np.int64],
        reasons: dict[int, str],
    ) -> Outcomes:
        """What becomes of each event; adds the reasons."""
        source = self._source
        times, has_time = _micros(columns[source.event_time])
        declared, is_declared = _micros(columns[source.available_at])
        for row in np.flatnonzero(~has_time).tolist():
            reasons.setdefault(row, f"no {source.event_time}")
        outcomes = np.zeros(len(appended), dtype=np.int8)
        outcomes[list(reasons)] = MALFORMED
        ahead = is_declared & (declared > appended + self._tolerance) & (outcomes == ACCEPTED)
        outcomes[ahead] = REFUSED
        reasons |= dict.fromkeys(
            np.flatnonzero(ahead).tolist(), f"{source.available_at} is too far in the future"
        )
        if source.lateness is not None:
            late = (appended - times > source.lateness) & (outcomes == ACCEPTED)
            outcomes[late] = LATE
            told = f"known more than {source.lateness} µs after {source.event_time}"
            reasons |= dict.fromkeys(np.flatnonzero(late).tolist(), told)
        return outcomes


def _check(source: Source) -> None:
    if source.stream is None:
        raise DefinitionError(f"source {source.name!r} has no stream", "Declare stream='…'.")


def _typed(name: str, values: list[Any], dtype: DType, reasons: dict[int, str]) -> pa.Array:
    """A column in its declared type; what is of another type is null and told in ``reasons``."""
    if set(map(type, values)) <= _EXACT[dtype]:
        try:
            return _exact(values, dtype)
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass  # one of them does not fit: which one is found below
    kept = list(values)
    for row, value in enumerate(values):
        try:
            kept[row] = _checked(name, value, dtype)
        except (BadInput, pa.ArrowInvalid, OverflowError, TypeError, UnicodeEncodeError) as error:
            kept[row] = None
            reasons.setdefault(row, _shown(getattr(error, "what", f"{name}: {error}")))
    return _exact(kept, dtype)


def _exact(values: list[Any], dtype: DType) -> pa.Array:
    array = pa.array(values, pa.int64() if dtype == "time" else to_arrow(dtype))
    if dtype != "time":
        return array
    least, most = pc.min_max(array).as_py().values()
    if least is not None and (least < _FIRST_TIME or most > _LAST_TIME):
        raise pa.ArrowInvalid("a time lies outside the years 1 to 9999")
    return array.cast(to_arrow("time"))


def _checked(name: str, value: Any, dtype: DType) -> Any:
    found = checked_value(name, value, dtype)
    if dtype in ("time", "str"):
        _exact([found], dtype)
    return found


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _micros(column: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """A time column as µs, 0 where it is null, and where it is not."""
    given = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
    whole = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(whole), given


def _available(
    declared: pa.Array, appended: npt.NDArray[np.int64], refused: npt.NDArray[np.bool_]
) -> pa.Array:
    """When an event became available: when it was appended. What was refused keeps its own."""
    known = pa.array(appended, pa.int64()).cast(to_arrow("time"))
    return pc.if_else(pa.array(refused), declared, known) if refused.any() else known
