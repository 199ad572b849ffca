"""The feature store's long jobs on Ray: the same answers as in one process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import Source
from features.errors import BadInput
from features.offline.iceberg import IcebergLake
from features.offline.ingest import ingest
from features.on_ray import ingest_on_ray

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
