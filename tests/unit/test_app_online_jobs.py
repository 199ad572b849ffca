"""The online commands over a real lake and a real online store, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.compose import Platform
from app.errors import NotFound
from app.online_jobs import check, get_online, land, materialize
from app.settings import load_settings
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
from features import sum as total
from features.algebra.state import EntityState
from features.algebra.view import ViewAlgebra
from features.durations import HOUR, MINUTE
from features.errors import BadInput
from features.library import Library
from features.offline.lake import TableSpec, source_table
from features.online.materialize import view_id
from features.online.reader import FeatureReader
from features.online.store import Head
from features.plan import ServicePlan, resolve
from features.testing import ManualClock
from features.view_test import events_table
from serving.degradation import degradation_of
from serving.model import LoadedModel, Scored, Version
from serving.plan import request_shape
from serving.prediction_log import Entry, record_schema, records

NOON = 1_383_307_200_000_000
SCHEMA = {"k": str, "b": int, "x": float, "n": int, "at": "time", "known": "time"}
SOURCE = Source("src", table="lake.src", stream="src", event_time="at", available_at="known",
                schema=SCHEMA)  # fmt: skip
PAIR = Entity("pair", key=("k", "b"), type=(str, int))
VIEW = FeatureView("spent", entity=PAIR, source=SOURCE, ttl=6 * HOUR, features={
    "n": count().over(HOUR), "mean": mean(col("x")).over(3 * HOUR), "last_at": last(col("at")),
    "age": query_time() - ref("last_at"), "big": total(col("n")),
})  # fmt: skip
ASKED = RequestView("asked", request={"limit": float}, features={
    "over": ref("spent:mean") > col("limit"), "prev": ref("prev:n") + 0,
})  # fmt: skip
SERVICE = FeatureService("svc", [VIEW, VIEW.as_("prev", key={"k": "prev_k"}), ASKED])
LIBRARY = Library.from_definitions([VIEW, ASKED, SERVICE])
EVENTS = [
    {"k": "a", "b": 1, "x": 1.0, "n": 2**62, "at": NOON - 2 * HOUR, "known": NOON - 2 * HOUR},
    {"k": "a", "b": 1, "x": 2.0, "n": 2**62, "at": NOON - 30 * MINUTE, "known": NOON - MINUTE},
    {"k": "c", "b": 1, "x": 8.0, "n": 1, "at": NOON - HOUR, "known": NOON - HOUR},
    {"k": None, "b": 1, "x": 9.0, "n": 1, "at": NOON - HOUR, "known": NOON - HOUR},
]
ROW = {"k": "a", "b": 1, "prev_k": "c", "limit": 1.25}
HISTORY = {"n": 1, "mean": 1.5, "last_at": "2013-11-01T11:30:00+00:00", "age": 1800.0, "big": None}
COLUMNS = [f"{role}__{name}" for role in ("spent", "prev") for name in VIEW.features]


@pytest.fixture
def platform(tondo_home: Path) -> Platform:
    """An installation at noon, with four events in its lake."""
    made = Platform(load_settings(None), ManualClock(NOON))
    lake = made.lake()
    lake.create(source_table(SOURCE))
    lake.append("lake.src", events_table(SOURCE, EVENTS))
    return made


def plan() -> ServicePlan:
    """The service."""
    return resolve(LIBRARY, "svc")


def get(platform: Platform, q: int | None = None, explain: bool = False, **row: Any) -> Any:
    """Online values of a row."""
    return get_online(platform, plan(), {**ROW, **row}, q, explain)


def nothing(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def test_from_the_lake_to_values(platform: Platform) -> None:
    """Materialized, then read: values, and states for each of them."""
    done = materialize(platform, VIEW, NOON, nothing)
    assert done == {"view": f"spent@{VIEW.fingerprint}", "version": 1, "cut": NOON, "keys": 2}
    found = get(platform)
    assert list(found) == ["values", "states"]
    assert list(found["values"]) == [*COLUMNS, "asked__over", "asked__prev"]
    assert {name: found["values"][f"spent__{name}"] for name in HISTORY} == HISTORY
    assert found["values"]["asked__over"] is True
    assert found["values"]["prev__n"] == found["values"]["asked__prev"] == 1
    states = found["states"]
    assert states.pop("spent__big") == "error"
    assert set(states.values()) == {"value"}


def test_unknown_and_null_keys(platform: Platform) -> None:
    """Absent, counts as 0; a null key is absent, and nothing at all."""
    materialize(platform, VIEW, NOON, nothing)
    found = get(platform, k="z", prev_k=None)
    assert found["values"]["spent__n"] == 0
    assert found["values"]["prev__n"] is None
    assert {found["states"][name] for name in COLUMNS} == {"absent"}


def test_nothing_is_online_yet(platform: Platform) -> None:
    """An error for every stored feature, never a null that looks like no events."""
    found = get(platform)
    assert set(found["values"].values()) == {None}
    assert set(found["states"].values()) == {"error"}


def test_where_values_came_from(platform: Platform) -> None:
    """By feature: value, state, substitute, time, and the version with its cut."""
    materialize(platform, VIEW, NOON, nothing)
    found = get(platform, explain=True)
    assert list(found) == ["values", "states", "provenance"]
    assert found["provenance"]["spent__mean"] == {
        "value": 1.5,
        "state": "value",
        "substitute": "none",
        "at": "2013-11-01T12:00:00+00:00",
        "position": {"version": 1, "cut": NOON, "offsets": [0]},
    }


def test_the_past_is_answered_offline(platform: Platform) -> None:
    """Before the cut, with the states that it had then, from a snapshot that is named."""
    materialize(platform, VIEW, NOON, nothing)
    platform.clock.advance(HOUR)  # type: ignore[attr-defined]
    before = get(platform, NOON - MINUTE, explain=True)
    assert before["values"]["spent__n"] == 0
    assert before["values"]["spent__mean"] == 1.0
    assert before["values"]["spent__last_at"] == "2013-11-01T10:00:00+00:00"
    assert before["values"]["spent__big"] == 2**62
    assert before["values"]["asked__over"] is False
    assert (before["states"]["spent__n"], before["states"]["spent__mean"]) == ("empty", "value")
    assert before["offline"]["snapshots"] == {
        "lake.src": platform.lake().describe("lake.src").snapshot
    }
    assert before["provenance"]["spent__mean"]["position"] is None
    after = get(platform, NOON - MINUTE + 1)
    assert (after["values"]["spent__n"], after["values"]["spent__mean"]) == (1, 1.5)
    assert after["states"]["spent__big"] == "error"
    long_ago = get(platform, NOON - 2 * HOUR)
    assert {long_ago["states"][name] for name in COLUMNS} == {"absent"}
    null = get(platform, NOON - MINUTE, k=None)
    assert null["states"]["spent__n"] == "absent"
    assert null["values"]["spent__n"] is None


def test_what_the_stream_has_passed_is_answered_offline(platform: Platform) -> None:
    """A question from before the newest streamed event is not moved behind it, nor guessed."""
    materialize(platform, VIEW, NOON, nothing)
    store, algebra = platform.online(), ViewAlgebra(VIEW)
    (version,) = store.versions(view_id(VIEW))
    late = {**EVENTS[0], "n": 1, "at": NOON + HOUR, "known": NOON + HOUR}
    (row,) = algebra.rows(events_table(SOURCE, [late]))
    state = EntityState(algebra.slots)
    state.add(row)
    head = Head(1, NOON + HOUR, NOON + HOUR)
    store.write_head(version, 0, [(row.key, state.pack())], head)
    passed = get(platform, NOON + 10 * MINUTE, explain=True)
    assert passed["values"]["spent__n"] == 1
    assert passed["values"]["spent__age"] == 2_400.0
    assert "offline" in passed
    after = get(platform, NOON + HOUR + 1)
    assert after["values"]["spent__age"] == 1e-6


def test_at_is_the_same_on_both_sides_of_a_cut(platform: Platform) -> None:
    """Online or offline, at any time: one history, one answer."""
    times = [NOON - HOUR, NOON - MINUTE, NOON - 1, NOON, NOON + HOUR, NOON + 6 * HOUR]
    before = [get(platform, q) for q in times]
    materialize(platform, VIEW, NOON, nothing)
    assert [get(platform, q) for q in times] == before


def test_a_cut_in_the_future_is_refused(platform: Platform) -> None:
    """By the platform's clock; nothing comes online."""
    with pytest.raises(BadInput, match="not known yet"):
        materialize(platform, VIEW, NOON + 1, nothing)
    assert set(get(platform)["states"].values()) == {"error"}


def served_and_logged(platform: Platform, spoil: float | None = None) -> None:
    """Three answers in the prediction log; the last one's mean may be another."""
    shape = request_shape(plan())
    reader = FeatureReader(plan(), platform.online(), cache_us=0, clock=platform.clock)
    loaded = LoadedModel(Version("f", 1), "d", shape, reader, lambda rows: None, None)  # type: ignore
    rows: list[dict[str, Any]] = [ROW, {**ROW, "k": "z"}, {**ROW, "k": "c", "prev_k": None}]
    served = reader.read(rows, [NOON] * 3)
    if spoil is not None:
        served[2].values[1] = spoil
    scored = Scored([0.5] * 3, served, degradation_of(shape.outputs, served))
    lake = platform.lake()
    lake.create(TableSpec("lake.predictions_f", record_schema(loaded)))
    lake.append(
        "lake.predictions_f", records(loaded, [Entry("r", loaded, rows, NOON, NOON, scored, 7)])
    )


def test_what_was_served_is_checked(platform: Platform) -> None:
    """All of it is what offline makes of the same position; errors are not compared."""
    materialize(platform, VIEW, NOON, nothing)
    served_and_logged(platform)
    found = check(platform, LIBRARY, "svc", nothing)
    assert (found["service"], found["rows"], found["mismatches"]) == ("svc", 3, 0)
    assert found["values"] == 3 * 12 - 1
    assert found["differences_at_q"] == 0
    assert found["gap"] == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    assert [column["column"] for column in found["columns"]][:2] == ["spent__n", "spent__mean"]


def test_a_value_that_is_not_what_it_should_be_is_named(platform: Platform) -> None:
    """The column, and how far it is off."""
    materialize(platform, VIEW, NOON, nothing)
    served_and_logged(platform, spoil=24.0)
    found = check(platform, LIBRARY, "svc", nothing)
    assert found["mismatches"] == found["differences_at_q"] == 1
    (wrong,) = [column for column in found["columns"] if column["different"]]
    assert (wrong["column"], wrong["differences_at_q"]) == ("spent__mean", 1)
    assert wrong["smape"] == pytest.approx(1.0 / 2)


def test_nothing_to_check(platform: Platform) -> None:
    """Nobody predicted: that is said, with what to do. Nothing is in memory either."""
    with pytest.raises(NotFound, match="no prediction of service 'svc'") as error:
        check(platform, LIBRARY, "svc", nothing)
    assert "Predict first" in error.value.hint
    assert land(platform, LIBRARY) == {}
