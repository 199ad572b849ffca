"""Made-up histories for tests of online features: files and a stream, two versions, their heads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from features import (
    Entity,
    FeatureService,
    FeatureView,
    RequestView,
    Source,
    approx_distinct,
    col,
    count,
    distinct,
    first,
    histogram,
    last,
    mean,
    query_time,
    ref,
    top_k,
    variance,
)
from features import sum as total
from features.algebra.state import EntityState
from features.algebra.view import ViewAlgebra
from features.dtypes import to_arrow
from features.library import Library
from features.offline.lake import OFFSET, PARTITION, source_table
from features.offline.memory import MemoryLake
from features.online import Served
from features.online.consistency import AT, Logged
from features.online.materialize import materialize, view_id
from features.online.memory import MemoryStore
from features.online.served import Position
from features.online.store import Head, Version
from features.plan import ServicePlan, ViewPlan, resolve
from features.view_test import events_table

SCHEMA = {"a": str, "b": int, "x": float, "n": int, "s": str, "seq": int, "id": str,
          "at": "time", "known": "time"}  # fmt: skip
SECOND = 1_000_000
Event = dict[str, Any]

A = st.sampled_from(["p"] * 8 + ["q", "", None])
B = st.sampled_from([0] * 8 + [1, None])
TIMES = st.one_of(st.integers(0, 20).map(lambda n: n * 1_500), st.integers(0, 30_000))
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 1e300, -1e300, 5e-324, math.nan, math.inf]),
    st.integers(-20, 20).map(float),
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "a": A,
            "b": B,
            "x": st.one_of(st.none(), FLOATS),
            "n": st.one_of(st.none(), st.just(2**62), st.integers(-9, 9)),
            "s": st.sampled_from(["u", "v", None]),
            "seq": st.one_of(st.none(), st.integers(0, 2)),
            "id": st.one_of(st.none(), st.sampled_from("ijkl")),
            "at": TIMES,
            "known": TIMES,
        }
    ),
    max_size=24,
)


def stream_source(event_id: str | None, lateness: int | None, partitions: int = 2) -> Source:
    """Events of files and of a stream."""
    return Source("src", table="lake.src", stream="src", event_time="at", available_at="known",
                  schema=SCHEMA, sequence="seq", event_id=event_id, lateness=lateness,
                  partitions=partitions)  # fmt: skip


def views(source: Source) -> tuple[FeatureView, FeatureView, FeatureView]:
    """By a composite key, by a part of it, and one of files alone."""
    x, n = col("x"), col("n")
    pair = Entity("pair", key=("a", "b"), type=(str, int))
    wide = FeatureView("wide", entity=pair, source=source, ttl=9_000, features={
        "count": count(), "count_w": count().over(6_000), "mean_w": mean(x).over(12_000),
        "share": mean(x > 0).over(6_000), "sum_n": total(n).over(24_000), "last": last(x),
        "last_2": last(n, k=2).over(24_000), "first_s": first(col("s")), "top": top_k(x, k=2),
        "last_at": last(col("at")), "fails": total(n * 4).over(24_000), "hist": histogram(col("s")),
        "gap": ref("mean_w") - ref("last"), "since": query_time() - ref("last_at"),
        "later": ref("since") + 1.0, "of_error": ref("fails").fill_null(7),
    })  # fmt: skip
    narrow = FeatureView("narrow", entity=Entity("a", key="a"), source=source, hop=70, features={
        "by_s": mean(x).over(24_000).by("s"), "var": variance(x).over(12_000),
        "kinds": distinct(n).over(6_000), "count": count(), "about": approx_distinct(x).over(9_000),
    })  # fmt: skip
    table = Source("tab", table="lake.tab", event_time="at", available_at="known", schema=SCHEMA)
    plain = FeatureView("plain", entity=Entity("b", key="b", type=int), source=table, features={
        "last": last(x), "mean_w": mean(x).over(12_000), "sum": total(x),
    })  # fmt: skip
    return wide, narrow, plain


def service(source: Source, **options: Any) -> ServicePlan:
    """All of them, one in two roles, and request views that read them and each other."""
    wide, narrow, plain = views(source)
    asked = RequestView("asked", request={"limit": float}, features={
        "over": ref("wide:last") > col("limit"), "twice": col("limit") * 2.0,
        "when": query_time(), "bad": ref("wide:fails") + 1,
    })  # fmt: skip
    more = RequestView("more", request={"limit": float}, features={
        "all": ref("asked:twice") + ref("plain:sum"), "seen": ref("narrow:count") + 0,
        "ratio": ref("prev:last") / ref("all"), "worse": ref("asked:bad").fill_null(1),
    })  # fmt: skip
    members = [more, wide, wide.as_("prev", key={"a": "prev_a"}), narrow, plain, asked]
    made = FeatureService("svc", members, **{"clock": "replay", **options})
    return resolve(Library.from_definitions([wide, narrow, plain, asked, more, made]), "svc")


@dataclass
class History:
    """What happened: rows of files, and what a stream accepted, with partition and offset."""

    plan: ServicePlan = field(repr=False)
    source: Source
    files: list[Event]
    streamed: list[Event]
    lake: MemoryLake = field(default_factory=MemoryLake, repr=False)
    store: MemoryStore = field(default_factory=MemoryStore, repr=False)
    versions: dict[str, list[Version]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for view in self.views:
            self.lake.create(source_table(view.source))
        own = events_table(self.source, self.files)
        self.lake.append("lake.src", own)
        self.lake.append("lake.src", landed(self.source, self.streamed))
        table = next(v.source for v in self.views if v.source.name == "tab")
        self.lake.append("lake.tab", events_table(table, self.files))

    @property
    def views(self) -> list[FeatureView]:
        """The views, once each."""
        return list({view_id(v.view): v.view for v in self.plan.views}.values())

    def rows(self, view: ViewPlan) -> list[Event]:
        """Every event of a view's source."""
        own = [{n: r[n] for n in SCHEMA} for r in self.streamed]
        return [*self.files, *own] if view.view.source.stream else self.files

    def materialize(self, cut: int) -> None:
        """A new version of every view; the heads are filled later."""
        for view in self.views:
            done = materialize(view, self.lake, self.store, cut, now=cut)
            self.versions.setdefault(view.name, []).append(done.version)

    def fill(self, until: int) -> None:
        """The heads of every version get what became known before a time."""
        for view in self.views:
            for version in self.versions[view.name]:
                for partition in range(version.partitions):
                    self.fill_head(view, version, partition, until)

    def fill_head(self, view: FeatureView, version: Version, partition: int, until: int) -> None:
        """One head, as a stream's worker does it."""
        mine = [e for e in self.streamed if e[PARTITION] == partition and e["known"] < until]
        head = self.of_head(version, mine)
        algebra, states = ViewAlgebra(view), dict[bytes, EntityState]()
        for row in algebra.rows(events_table(view.source, [bare(e) for e in head])):
            states.setdefault(row.key, EntityState(algebra.slots)).add(row)
        for state in states.values():
            state.settle(state.newest + 1)
        newest = max((e["known"] for e in head), default=None)
        offset = mine[-1][OFFSET] + 1 if mine else 0
        cells = [(key, state.pack()) for key, state in states.items()]
        self.store.write_head(version, partition, cells, Head(offset, newest, until))

    def of_head(self, version: Version, mine: Sequence[Event]) -> list[Event]:
        """Those that belong to a version's head: known from its cut on, of no id in its tail."""
        ids = set()
        if self.source.event_id is not None:
            known = [*self.files, *self.streamed]
            ids = {e["id"] for e in known if e["known"] < version.cut and not self.is_late(e)}
        return [
            e for e in mine if e["known"] >= version.cut and (e["id"] is None or e["id"] not in ids)
        ]

    def is_late(self, event: Event) -> bool:
        """Whether an event is late."""
        late = self.source.lateness
        return late is not None and event["known"] - event["at"] > late

    def newest(self, name: str, version: Version, until: int) -> int:
        """The greatest available time in the heads of a version that were filled until a time."""
        mine = [e for e in self.streamed if e["known"] < until] if version.partitions else []
        return max((e["known"] for e in self.of_head(version, mine)), default=-1)


def bare(event: Event) -> Event:
    """A streamed event without its place."""
    return {name: event[name] for name in SCHEMA}


def landed(source: Source, streamed: Sequence[Event]) -> pa.Table:
    """What the stream brings into the lake."""
    table = events_table(source, [bare(e) for e in streamed])
    for name, kind in ((PARTITION, pa.int32()), (OFFSET, pa.int64())):
        table = table.append_column(name, pa.array([e[name] for e in streamed], kind))
    return table


def accepted(source: Source, events: Sequence[Event], skips: Iterator[int]) -> list[Event]:
    """What a stream accepts of events in the order in which they become known.

    An id belongs to one entity, so to one partition, where its first event is the one that counts.
    """
    offsets = [0] * source.partitions
    seen: set[Any] = set()
    found = []
    for event in sorted(events, key=lambda e: e["known"]):
        partition = len(event["a"] or "") % source.partitions
        offsets[partition] += next(skips)
        offset = offsets[partition]
        offsets[partition] += 1
        late = source.lateness is not None and event["known"] - event["at"] > source.lateness
        name = named(event)["id"]
        if late or (source.event_id is not None and name is not None and name in seen):
            continue
        seen.add(name)
        found.append({**named(event), PARTITION: partition, OFFSET: offset})
    return found


def named(event: Event) -> Event:
    """The event with an id of its entity's own."""
    if event["id"] is None:
        return event
    return {**event, "id": f"{event['id']}{event['a']}"}


@st.composite
def histories(draw: st.DrawFn, **options: Any) -> History:
    """Files that were known before the first cut, which is 10,000 or later, and a stream."""
    event_id, lateness = draw(st.sampled_from([None, "id"])), draw(st.sampled_from([None, 7_000]))
    source = stream_source(event_id, lateness, draw(st.sampled_from([1, 2])))
    skips = draw(st.lists(st.integers(0, 3), min_size=24, max_size=24))
    files = [named(e) for e in draw(EVENTS) if e["known"] < 10_000]
    streamed = accepted(source, draw(EVENTS), iter(skips))
    return History(service(source, **options), source, files, streamed)


REQUESTS = st.fixed_dictionaries(
    {"a": A, "b": B, "prev_a": A, "limit": st.one_of(st.none(), st.sampled_from([0.0, 1.5]))}
)


def same(a: Any, b: Any) -> bool:
    """Equal, NaN to NaN and every float to the last bit (−0.0 is 0.0)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and bool(a == b)


def plain(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Python values as they are served."""
    if pa.types.is_timestamp(column.type):
        return list(column.cast(pa.int64()).to_pylist())
    found = column.to_pylist()
    if pa.types.is_map(column.type):
        return [None if v is None else dict(v) for v in found]
    return list(found)


def spine_of(plan: ServicePlan, rows: Sequence[Event], times: Sequence[int]) -> pa.Table:
    """Requests as a spine with the time column ``AT``."""
    types = {**plan.key_columns, **plan.request_columns}
    columns = {n: pa.array([row[n] for row in rows], to_arrow(t)) for n, t in types.items()}
    return pa.table({**columns, AT: pa.array(times, to_arrow("time"))})


def logged(plan: ServicePlan, rows: Sequence[Event], served: Sequence[Served]) -> Logged:
    """What was served, as the prediction log has it."""
    values = {
        output.column: as_column([s.values[i] for s in served], output.dtype)
        for i, output in enumerate(plan.outputs)
    }
    checked = {
        o.column: np.array([s.states[i] != "error" and s.substitutes[i] == "none" for s in served])
        for i, o in enumerate(plan.outputs)
    }
    nowhere = Position(0, 0)
    positions = {v.role: [s.positions.get(v.role, nowhere) for s in served] for v in plan.views}
    return Logged(spine_of(plan, rows, [s.at for s in served]), values, positions, checked)


def as_column(values: Sequence[Any], dtype: str) -> pa.Array:
    """Served values as an Arrow column."""
    kind = to_arrow(dtype)
    if pa.types.is_map(kind):
        values = [None if v is None else list(v.items()) for v in values]
    return pa.array(values, kind)
