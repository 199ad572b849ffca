"""The feature store's long jobs on Ray: the same answers as in one process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import features.offline.spine as spine_module
import features.offline.staged_join as staged_module
from features import (
    Entity,
    FeatureService,
    FeatureView,
    Library,
    RequestView,
    Source,
    col,
    count,
    distinct,
    hours,
    last,
    mean,
    ref,
    resolve,
    stddev,
)
from features.errors import BadInput, NotFound
from features.offline.iceberg import IcebergLake
from features.offline.ingest import ingest
from features.offline.join import join_local
from features.on_ray import ingest_on_ray, join_on_ray
from features.plan import ServicePlan

pytestmark = pytest.mark.usefixtures("ray_session")

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LANDINGS = Source(
    "landings",
    table="lake.landings",
    event_time="landed_at",
    bucket_by="carrier",
    schema={"carrier": str, "delay": float, "landed_at": datetime},
)


class Frozen:
    """A clock that stands still."""

    def now(self) -> int:
        """The time, UTC µs."""
        return int(NOW.timestamp()) * 1_000_000


def landings(count: int, **changes: Any) -> pa.Table:
    """Landings of a few carriers, one a minute."""
    rows = [
        {"carrier": f"c{i % 5}", "delay": float(i), "landed_at": NOW - timedelta(minutes=i)}
        | changes
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows)


def test_ingest_on_ray_adds_what_ingest_adds(tmp_path: Path) -> None:
    """Row groups and files are staged in parallel, committed once, and known the next time."""
    pq.write_table(landings(3_000), tmp_path / "a.parquet", row_group_size=500)
    bad = landings(2, landed_at=NOW + timedelta(days=2))
    pq.write_table(bad, tmp_path / "b.parquet")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    told: list[tuple[str, int, int]] = []
    report = ingest_on_ray(
        tmp_path / "ray", LANDINGS, paths, clock=Frozen(), progress=lambda *step: told.append(step)
    )
    here = IcebergLake(tmp_path / "here")
    expected = ingest(here, LANDINGS, paths, clock=Frozen())
    lake = IcebergLake(tmp_path / "ray")
    assert (report.rows, report.refused, report.malformed) == (3_000, 2, 0)
    assert (expected.rows, expected.refused) == (report.rows, report.refused)
    order = [("landed_at", "ascending")]
    assert lake.scan("lake.landings").sort_by(order) == here.scan("lake.landings").sort_by(order)
    assert lake.describe("lake.landings_dead_letters").rows == 2
    assert ingest_on_ray(tmp_path / "ray", LANDINGS, paths, clock=Frozen()).nothing_to_do
    assert told[-1][1:] == (2, 2)


def test_a_bad_file_on_ray_leaves_nothing_behind(tmp_path: Path) -> None:
    """The error is the one that ingest gives, and no staged file stays on the disk."""
    pq.write_table(landings(100), tmp_path / "good.parquet")
    (tmp_path / "bad.csv").write_text("carrier,delay,landed_at\nAA,soon,2026-01-01T00:00Z\n")
    with pytest.raises(BadInput, match="row 1: 'soon' is not float"):
        ingest_on_ray(
            tmp_path / "lake", LANDINGS, [tmp_path / "good.parquet", tmp_path / "bad.csv"]
        )
    assert IcebergLake(tmp_path / "lake").describe("lake.landings").rows == 0
    assert not list((tmp_path / "lake").rglob("*.parquet"))


ROUTE = Entity("route", key=("carrier", "stop"), type=(str, int))
CALLS = Source(
    "calls",
    table="lake.calls",
    event_time="called_at",
    available_at="reported_at",
    event_id="call",
    bucket_by="carrier",
    schema={
        "call": str,
        "carrier": str,
        "stop": int,
        "delay": float,
        "called_at": datetime,
        "reported_at": datetime,
    },
)


def calls_plan() -> ServicePlan:
    """A bucketed key, a composite one, two roles, and a request view that reads both."""
    carrier = Entity("carrier", key="carrier")
    delay = col("delay")
    by_carrier = FeatureView("by_carrier", entity=carrier, source=CALLS, features={
        "mean_3h": mean(delay).over(hours(3)), "dev": stddev(delay), "last": last(delay),
        "kinds": distinct(col("stop")).over(hours(24)), "calls": count(),
    })  # fmt: skip
    by_route = FeatureView("by_route", entity=ROUTE, source=CALLS, features={
        "last_3": last(delay, k=3), "calls_6h": count().over(hours(6)),
    })  # fmt: skip
    leg = RequestView("leg", request={"miles": float}, features={
        "pace": col("miles") / ref("by_carrier:mean_3h"),
    })  # fmt: skip
    other = by_carrier.as_("other", key={"carrier": "partner"})
    service = FeatureService("calls", [by_carrier, by_route, other, leg])
    return resolve(Library.from_definitions([service]), "calls")


def called_lake(root: Path) -> IcebergLake:
    """A lake of calls in several files; one in nine repeats an id under another key."""
    random = np.random.default_rng(11)
    lake = IcebergLake(root)
    for file in range(3):
        rows = []
        for i in range(2_000):
            called = NOW - timedelta(minutes=int(random.integers(0, 20_000)))
            number = file * 2_000 + i
            rows.append(
                {
                    "call": f"c{number - 1 if number % 9 == 0 else number}",
                    "carrier": None if i % 97 == 0 else f"c{random.integers(0, 40)}",
                    "stop": int(random.integers(0, 5)),
                    "delay": None if i % 13 == 0 else float(random.normal()),
                    "called_at": called,
                    "reported_at": called + timedelta(minutes=int(random.integers(-30, 300))),
                }
            )
        path = root.parent / f"calls-{file}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        ingest(lake, CALLS, [path], clock=Frozen())
    return lake


def calls_spine(rows: int) -> pa.Table:
    """Rows that ask about known, unknown and null keys at any time."""
    random = np.random.default_rng(12)
    return pa.Table.from_pylist(
        [
            {
                "n": i,
                "partner": f"c{random.integers(0, 45)}",
                "asked_at": None if i % 101 == 0 else NOW - timedelta(seconds=int(s)),
                "carrier": None if i % 53 == 0 else f"c{random.integers(0, 45)}",
                "stop": int(random.integers(0, 6)),
                "miles": float(i % 7),
            }
            for i, s in enumerate(random.integers(0, 1_300_000, rows))
        ]
    )


@pytest.mark.parametrize("as_file", [False, True], ids=["table", "file"])
def test_the_join_on_ray_is_the_join_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_file: bool
) -> None:
    """The same rows and values from many parts and buckets, with ids that repeat across them."""
    plan, lake, spine = calls_plan(), called_lake(tmp_path / "lake"), calls_spine(3_000)
    monkeypatch.setattr(spine_module, "PART_ROWS", 700)
    monkeypatch.setattr(staged_module, "TASK_ROWS", 900)
    given: Any = spine
    if as_file:
        given = tmp_path / "spine.parquet"
        pq.write_table(spine, given, row_group_size=500)
    here = join_local(plan, lake, spine, tmp_path / "here.parquet", time_column="asked_at")
    there = join_on_ray(plan, tmp_path / "lake", given, "asked_at", out=tmp_path / "there.parquet")
    assert (there.rows, there.snapshots) == (here.rows, here.snapshots) == (3_000, here.snapshots)
    found = pq.read_table(tmp_path / "there.parquet")
    expected = pq.read_table(tmp_path / "here.parquet")
    assert found.select(spine.column_names).equals(spine)
    assert found.equals(expected)
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_an_older_snapshot_is_read_again(tmp_path: Path) -> None:
    """A join that names its snapshots gives what it gave then, though rows have come since."""
    plan, lake = calls_plan(), called_lake(tmp_path / "lake")
    spine, options = calls_spine(200), {"time_column": "asked_at"}
    first = join_on_ray(plan, lake.root, spine, out=tmp_path / "a.parquet", **options)
    lake.append("lake.calls", lake.scan("lake.calls"), digest="again")
    again = join_on_ray(
        plan,
        lake.root,
        spine,
        out=tmp_path / "b.parquet",
        snapshots=dict(first.snapshots),
        **options,
    )
    assert again.snapshots == first.snapshots
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_join_on_ray_that_fails_writes_nothing(tmp_path: Path) -> None:
    """A missing table and a wrong key are told as they are here, and leave nothing behind."""
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "joined.parquet"
    with pytest.raises(NotFound, match=r"lake\.calls"):
        join_on_ray(calls_plan(), tmp_path / "lake", calls_spine(5), "asked_at", out=out)
    called_lake(tmp_path / "lake")
    wrong = calls_spine(50).set_column(4, "stop", pa.array(["1"] * 50))
    with pytest.raises(BadInput, match="'stop'"):
        join_on_ray(calls_plan(), tmp_path / "lake", wrong, "asked_at", out=out)
    assert list(out.parent.iterdir()) == []
