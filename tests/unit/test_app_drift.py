"""The monitor job, from a lake to a decision, and what rules make of its findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.client import control
from app.compose import Platform
from app.control.documents import status_data
from app.control.resources import Status, Stored, make
from app.control.retraining import Decision, Hold, Retrain
from app.control.service import apply_arguments
from app.control.specs import RuleSpec
from app.drift import (
    SCORE,
    DriftFound,
    apply_rule,
    because,
    began,
    check_drift,
    chosen_columns,
    decide_by,
    rules_on,
)
from app.errors import BadInput, NotFound
from app.project import load_path
from app.settings import load_settings
from app.training_jobs import Asked, run_here
from features.durations import days, hours
from features.offline.lake import TableSpec
from features.testing import ManualClock
from serving.monitoring import DriftReport, FeatureDrift
from training.testing import MINUTE, START

FAMILY = "flights.arrival_delay"
ROWS, STORM = 3_000, 2_400
"""One flight a minute; from flight STORM on everything is late."""
TIME = pa.timestamp("us", tz="UTC")
NOW = 1_800_000_000_000_000
KNOWN = ["carrier_delay__mean_3h", "carrier_delay__flights_3h", "leg__distance", SCORE]

PROJECT = {
    "definitions.py": """
from training.testing import flights_library
DEFINITIONS = list(flights_library().definitions())
""",
    "models/late/model.py": """
from training.testing import flights_model
MODEL = flights_model(rows=2_000, rounds=10, report_every=10)
""",
    "monitor.yaml": """
apiVersion: tondo/v1
kind: Monitor
metadata: {name: watch}
spec: {family: flights.arrival_delay, columns: ["*"], min_rows: 100}
---
apiVersion: tondo/v1
kind: Monitor
metadata: {name: features_only}
spec: {family: flights.arrival_delay, columns: ["carrier_delay:*", "leg:*"], min_rows: 100}
---
apiVersion: tondo/v1
kind: Rule
metadata: {name: again}
spec: {given: watch, then: retrain, cool_down: 1d, min_share: 0.1}
---
apiVersion: tondo/v1
kind: Rule
metadata: {name: calm}
spec: {given: features_only, then: retrain}
""",
}


def no_progress(what: str, done: int, total: int) -> None:
    """Tells nobody."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """An installation with a project, a lake with a storm at its end, and a champion."""
    root = tmp_path_factory.mktemp("drift")
    settings = load_settings(environ={}).model_copy(update={"home": root / "home"})
    made = Platform(settings, ManualClock(NOW))
    _write_project(root / "shop")
    _fill(made)
    loaded = load_path(root / "shop")
    with control(made, "test") as commands:
        commands.ask("apply", apply_arguments(loaded.resources, [loaded.project]))
    run_here(made, Asked(FAMILY, {}, promote=True), no_progress)
    return made


def _write_project(folder: Path) -> None:
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _fill(platform: Platform) -> None:
    random = np.random.default_rng(7)
    minutes = START + MINUTE * np.arange(ROWS, dtype=np.int64)
    times = pa.array(minutes).cast(TIME)
    carriers = np.array(["AA", "B6", "UA"])[random.integers(0, 3, ROWS)]
    delay = random.normal(5, 20, ROWS) + 30.0 * (np.arange(ROWS) >= STORM)
    landings = pa.table({"carrier": carriers, "arr_delay": delay, "landed_at": times})
    flights = pa.table(
        {
            "departed_at": times,
            "carrier": carriers,
            "origin": ["EWR"] * ROWS,
            "distance": random.uniform(100, 2_500, ROWS),
            "hour": random.integers(0, 24, ROWS),
            "dest": ["BOS"] * ROWS,
            "late": pa.array((delay > 15).astype(np.float64)),
        }
    )
    lake = platform.lake()
    for name, rows in (("lake.landings", landings), ("lake.flights", flights)):
        lake.create(TableSpec(name, rows.schema))
        lake.append(name, rows)


def minute(number: int) -> int:
    """The moment of a flight."""
    return START + MINUTE * number


def test_a_storm_is_found_and_named(platform: Platform) -> None:
    """In the stormy window the features of delays drift, and the rule wants a retraining."""
    found = check_drift(platform, "watch", (minute(STORM), minute(ROWS)), no_progress)
    assert found.rows == ROWS - STORM
    assert found.version == 1
    assert "carrier_delay__mean_3h" in found.evidence.drifted
    assert SCORE in found.evidence.drifted
    assert "leg__distance" not in found.evidence.drifted
    decision = decide_by(platform, found)["again"]
    assert isinstance(decision, Retrain)
    assert "columns drifted" in decision.why


def test_quiet_days_do_not_drift(platform: Platform) -> None:
    """The training months themselves do not drift, and nothing is done about them."""
    found = check_drift(platform, "features_only", (minute(0), minute(1_200)), no_progress)
    assert found.evidence.compared == 4
    assert max(feature.psi for feature in found.report.features) == 0
    decisions = decide_by(platform, found)
    assert list(decisions) == ["calm"]
    assert isinstance(decisions["calm"], Hold)


def test_a_window_with_too_few_rows_says_nothing(platform: Platform) -> None:
    """Columns with fewer rows than the monitor wants are skipped and hold a retraining back."""
    found = check_drift(platform, "watch", (minute(STORM), minute(STORM + 50)), no_progress)
    assert (found.evidence.compared, len(found.report.skipped)) == (0, 5)
    assert "too few rows" in decide_by(platform, found)["again"].why


def test_the_report_is_plain_data(platform: Platform) -> None:
    """What people and scripts read names the window, the columns and what moved most, first."""
    found = check_drift(platform, "watch", (minute(STORM), minute(ROWS)), no_progress).data()
    assert (found["from"], found["rows"]) == ("2013-01-02T16:00:00Z", ROWS - STORM)
    assert [c["psi"] for c in found["columns"]] == sorted(
        (c["psi"] for c in found["columns"]), reverse=True
    )
    assert {c["column"] for c in found["columns"] if c["drifted"]} == set(found["drifted"])


def test_a_rule_cools_down_after_its_own_run(platform: Platform) -> None:
    """A run that the rule asked for holds the next back; a run of somebody else does not."""
    found = check_drift(platform, "watch", (minute(STORM), minute(ROWS)), no_progress)
    _record(platform, "by-hand", "because I like it")
    assert isinstance(decide_by(platform, found)["again"], Retrain)
    _record(platform, "by-rule", because("again", Retrain("5 columns")))
    assert "cooling down" in decide_by(platform, found)["again"].why
    later = replace(platform, clock=ManualClock(NOW + days(2)))
    assert isinstance(decide_by(later, found)["again"], Retrain)


def _record(platform: Platform, name: str, why: str) -> None:
    spec = {"model": FAMILY, "why": why}
    with control(platform, "test") as commands:
        data = {"name": name, "spec": spec, "status": status_data(Status(1, "Succeeded"))}
        commands.ask("record_run", data)


def test_an_unknown_monitor_is_an_error(platform: Platform) -> None:
    """A monitor that nobody applied is named with those that are there."""
    with pytest.raises(NotFound, match=r"wach.*\n.*watch"):
        check_drift(platform, "wach", (0, 1), no_progress)


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["*"], KNOWN),
        (["carrier_delay:*"], KNOWN[:2]),
        (["leg:distance", "carrier_delay:mean_3h"], [KNOWN[0], KNOWN[2]]),
        ([SCORE, "leg__*"], KNOWN[2:]),
    ],
)
def test_patterns_choose_columns(patterns: list[str], chosen: list[str]) -> None:
    """Columns are named as features or columns, with wildcards, and keep their own order."""
    assert chosen_columns(patterns, KNOWN) == chosen


def test_a_pattern_that_names_nothing_is_refused() -> None:
    """A misspelt column is an error with the nearest, not a silent gap."""
    with pytest.raises(BadInput, match=r"leg__distanc'.*\n.*leg__distance"):
        chosen_columns(["*", "leg:distanc"], KNOWN)


def found_with(drifted: int, compared: int) -> DriftFound:
    """A finding in which some of the columns drifted."""
    columns = tuple(
        FeatureDrift(f"c{i}", 1.0 if i < drifted else 0.0, 0.1, 0.0, 0.0, 0.05, 500)
        for i in range(compared)
    )
    return DriftFound("watch", FAMILY, 1, (0, 1), 500, DriftReport(columns, ()))


def decided(drifted: int = 5, earlier: tuple[int, ...] = (), **rule: Any) -> Decision:
    """What a rule makes of ten columns of which some drifted."""
    spec = RuleSpec.model_validate({"given": "watch", "then": "retrain", **rule})
    return apply_rule(spec, found_with(drifted, 10), earlier, NOW)


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (decided(drifted=0), "none of 10"),
        (decided(min_share=0.6), "less than the policy's share"),
        (decided(earlier=(NOW - hours(1),)), "cooling down"),
        (decided(earlier=tuple(NOW - days(2 * i) for i in range(1, 5))), "budget of 4"),
        (decided(then="alert"), "only alerts"),
        (decided(dry_run=True), "dry run"),
    ],
)
def test_a_rule_holds_with_its_reason(decision: Decision, reason: str) -> None:
    """Whatever keeps a rule from retraining is said."""
    assert isinstance(decision, Hold)
    assert reason in decision.why


def test_a_rule_retrains_within_its_policy() -> None:
    """Enough drift, long enough after the last run and within the budget: train again."""
    assert isinstance(decided(earlier=(NOW - days(1),), min_share=0.5), Retrain)


def test_only_rules_on_the_monitor_count() -> None:
    """Rules on other monitors, and other kinds, have no say; runs are told apart by rule."""
    rules = {"mine": {"given": "watch"}, "yours": {"given": "other"}}
    stored = [Stored(make("Rule", n, spec), 1, 1, 5, 5) for n, spec in rules.items()]
    runs = [
        Stored(make("Run", f"r{i}", {"model": FAMILY, "why": why}), 1, 1, i, i)
        for i, why in enumerate(["", because("mine", Hold("x")), because("yours", Hold("x"))])
    ]
    assert list(rules_on([*stored, *runs], "watch")) == ["mine"]
    assert began([*stored, *runs], "mine") == [1]
