"""A small online store for tests, which may be silent or damaged, with a clock and readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features import (
    Entity,
    FeatureService,
    FeatureView,
    RequestView,
    Source,
    col,
    count,
    last,
    mean,
    query_time,
    ref,
)
from features.algebra.state import EntityState
from features.algebra.view import ViewAlgebra
from features.durations import HOUR, SECOND
from features.errors import DamagedData, Unavailable
from features.library import Library
from features.online import Served
from features.online.materialize import view_id
from features.online.memory import MemoryStore
from features.online.reader import FeatureReader
from features.online.store import Found, Head, Version
from features.plan import ServicePlan, resolve
from features.testing import ManualClock
from features.view_test import events_table

CUT = 1_000 * HOUR
LIFE = 60 * SECOND
SOURCE = Source("src", table="lake.src", stream="src", event_time="at", available_at="known",
                schema={"k": str, "x": float, "at": "time", "known": "time"})  # fmt: skip
VIEW = FeatureView("spent", entity=Entity("k", key="k"), source=SOURCE, ttl=5 * HOUR, features={
    "sum": count().over(HOUR), "mean": mean(col("x")).over(HOUR), "last": last(col("x")),
    "last_at": last(col("at")), "ever": count(), "age": query_time() - ref("last_at"),
})  # fmt: skip
OTHER = FeatureView("other", entity=Entity("k", key="k"), source=SOURCE, features={"n": count()})
KNOWN = Source("known", table="lake.known", stream="known", event_time="at", available_at="known",
               schema={"k": str, "x": float, "at": "time", "known": "time"})  # fmt: skip
SCHEDULE = FeatureView("due", entity=Entity("k", key="k"), source=KNOWN, ttl=HOUR, features={
    "n": count().over(2 * HOUR), "last": last(col("x")), "last_at": last(col("at")),
})  # fmt: skip
ASKED = RequestView("asked", request={"limit": float}, features={
    "over": ref("spent:last") > col("limit"), "half": col("limit") / 2.0,
})  # fmt: skip
NAMES = ["sum", "mean", "last", "last_at", "ever", "age"]


class Store(MemoryStore):
    """Can be silent, or find a cell damaged; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.damaged: set[bytes] = set()
        self.asked: list[list[tuple[str, bytes]]] = []

    def read(self, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        """As the memory store does, if it does."""
        self.asked.append(list(wanted))
        if self.silent:
            raise Unavailable("the store does not answer")
        if self.damaged & {key for _, key in wanted}:
            raise DamagedData("a cell is damaged")
        return super().read(wanted, at)


class World:
    """A store with one version of a view, a clock, and readers of services."""

    def __init__(self) -> None:
        self.store, self.clock = Store(), ManualClock(CUT + HOUR)
        self.version = Version(view_id(VIEW), 1, CUT, 1)
        self.publish(self.version, [("a", 1.0, CUT - 1)])

    def publish(self, version: Version, events: list[tuple[str, float, int]]) -> None:
        """A version with a tail of these events: key, value, time."""
        self.store.write_tail(version, cells(events, VIEW if "spent" in version.view else OTHER))
        self.store.publish(version)

    def stream(self, events: list[tuple[str, float, int]], offset: int, through: int) -> None:
        """The head of the version: these events."""
        newest = max((at for _, _, at in events), default=None)
        self.store.write_head(self.version, 0, cells(events), Head(offset, newest, through))

    def reader(self, *members: Any, cache_us: int = 0, **options: Any) -> FeatureReader:
        """A reader of a service of the view (and others)."""
        return FeatureReader(
            plan(*(members or (VIEW,)), **options), self.store, cache_us=cache_us, clock=self.clock
        )

    def ask(self, reader: FeatureReader, key: str | None = "a", **more: Any) -> Served:
        """One row as of a time, which is the clock's if none is given."""
        at = more.pop("at", None)
        (served,) = reader.read([{"k": key, **more}], [self.clock.now() if at is None else at])
        return served


def cells(
    events: list[tuple[str, float, int]], view: FeatureView = VIEW
) -> list[tuple[bytes, bytes]]:
    """Packed cells of these events."""
    algebra, states = ViewAlgebra(view), dict[bytes, EntityState]()
    table = events_table(SOURCE, [{"k": k, "x": x, "at": at, "known": at} for k, x, at in events])
    for row in algebra.rows(table):
        states.setdefault(row.key, EntityState(algebra.slots)).add(row)
    return [(key, state.pack()) for key, state in states.items()]


def plan(*members: Any, **options: Any) -> ServicePlan:
    """A service."""
    service = FeatureService("svc", list(members), **options)
    return resolve(Library.from_definitions([VIEW, OTHER, SCHEDULE, ASKED, service]), "svc")
