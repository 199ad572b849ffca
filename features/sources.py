"""What features are about and made from: entities with their keys, sources with their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from features.checks import check_duration, set_fields, strings
from features.dtypes import DType, dtype_of
from features.errors import DefinitionError
from features.frozen import ByValue, FrozenMap
from features.naming import checked_column, checked_name, checked_table, did_you_mean


@dataclass(frozen=True, slots=True, eq=False)
class Entity(ByValue):
    """Something features are about, known by one key column or several.

    ``keys`` and ``types`` are the key columns and their logical types, always as tuples.
    """

    name: str
    key: str | Sequence[str] = field(compare=False)
    type: Any = field(default=str, compare=False)
    description: str = ""
    owner: str = ""
    tags: Sequence[str] = ()
    keys: tuple[str, ...] = field(init=False)
    types: tuple[DType, ...] = field(init=False)

    def __post_init__(self) -> None:
        checked_name("entity", self.name)
        keys = strings(self.key)
        several = isinstance(self.type, (tuple, list))
        types = tuple(dtype_of(t) for t in (self.type if several else [self.type] * len(keys)))
        set_fields(self, keys=keys, types=types, tags=strings(self.tags))
        self._check_keys()

    def _check_keys(self) -> None:
        place = f"entity {self.name!r}"
        if not self.keys or len(set(self.keys)) != len(self.keys):
            raise DefinitionError(f"{place} names no key column, or one twice", "Name each once.")
        if len(self.keys) != len(self.types):
            raise DefinitionError(
                f"{place} has {len(self.keys)} key columns and {len(self.types)} types",
                "Give one type for each key column.",
            )
        if "float" in self.types:
            raise DefinitionError(f"{place} has a float key", "Use int or str: NaN equals nothing.")


@dataclass(frozen=True, slots=True, eq=False)
class Source(ByValue):
    """Where events come from: a lake table, perhaps also a stream of the same rows.

    ``event_time`` and ``available_at`` (default: the event time, which a stream may not use) name
    time columns, ``sequence`` an order among equal times, ``event_id`` what makes two rows one
    event. ``lateness`` is in µs; an event is late iff available_at - event_time exceeds it.
    """

    name: str
    _: KW_ONLY
    table: str
    event_time: str
    stream: str | None = None
    available_at: str = ""
    schema: Mapping[str, Any] | None = None
    sequence: str | None = None
    event_id: str | None = None
    lateness: int | None = None
    partitions: int = 1
    bucket_by: str | None = None
    description: str = ""
    owner: str = ""

    def __post_init__(self) -> None:
        checked_name("source", self.name)
        checked_table(self.table)
        if self.stream is not None:
            checked_name("stream", self.stream)
        check_duration(f"source {self.name!r}", "lateness", self.lateness, 0)
        if type(self.partitions) is not int or self.partitions < 1:
            raise DefinitionError(
                f"source {self.name!r}: {self.partitions!r} partitions", "Use one or more."
            )
        set_fields(self, available_at=self.available_at or self.event_time)
        self._check_stream()
        for name in self.named_columns:
            checked_column(f"source {self.name!r}", name)
        if self.schema is not None:
            self._take_schema(self.schema)

    def _check_stream(self) -> None:
        """The log says when an event became known, and needs a column of its own to say it in."""
        if self.stream is not None and self.available_at == self.event_time:
            raise DefinitionError(
                f"source {self.name!r} is streamed, but has no column for when an event became"
                " known",
                "Declare available_at='…', another time column than the event time.",
            )

    def _take_schema(self, schema: Mapping[str, Any]) -> None:
        place = f"source {self.name!r}"
        columns = {checked_column(place, name): dtype_of(kind) for name, kind in schema.items()}
        set_fields(self, schema=FrozenMap(columns))
        times = [name for name, dtype in columns.items() if dtype == "time"]
        for name in (self.event_time, self.available_at):
            if name not in times:
                raise DefinitionError(
                    f"{place}: {name!r} is not a time column of its schema",
                    did_you_mean(name, times, "time columns"),
                )
        for name in self.named_columns:
            if name not in columns:
                raise DefinitionError(
                    f"{place}: {name!r} is not in its schema",
                    did_you_mean(name, columns, "columns"),
                )

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The columns with a part to play: the two times, the sequence, the id, the bucket."""
        parts = (self.sequence, self.event_id, self.bucket_by)
        return (self.event_time, self.available_at, *(part for part in parts if part is not None))

    @property
    def columns(self) -> dict[str, DType]:
        """The columns with their types. Raises DefinitionError while the schema is unknown."""
        if self.schema is None:
            raise DefinitionError(
                f"source {self.name!r} has no schema",
                f"Declare schema={{…}}, or ingest {self.table!r} first.",
            )
        return dict(self.schema)

    @property
    def deciding_columns(self) -> tuple[str, ...]:
        """The columns that say which of several rows with one event id counts; none without ids.

        They are all that hold single values, because nothing less tells equal times apart for ever.
        """
        if self.event_id is None:
            return ()
        return tuple(name for name, dtype in self.columns.items() if "<" not in dtype)

    def with_schema(self, columns: Mapping[str, DType]) -> Source:
        """The same source with the schema that its table turned out to have."""
        return replace(self, schema=dict(columns))
