"""The Iceberg lake beyond the contract: files, buckets, full disks."""

from __future__ import annotations

import copy
import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import _dataframe_to_data_files

import features.offline.iceberg.lake as iceberg_lake
from features.errors import BadInput, Unavailable
from features.offline.iceberg import IcebergLake, iceberg_bucket
from features.offline.lake import TableSpec

SCHEMA = pa.schema([("key", pa.string()), ("at", pa.timestamp("us", tz="UTC"))])
SPEC = TableSpec("lake.events", SCHEMA, "key", 4, ("key", "at"))


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    """An empty lake with one bucketed table."""
    made = IcebergLake(tmp_path / "lake")
    made.create(SPEC)
    return made


def events(count: int) -> pa.Table:
    """Events of a few keys, the latest first."""
    times = pa.array([1_000 * (count - i) for i in range(count)], SCHEMA.field("at").type)
    return pa.table({"key": [f"k{i % 7}" for i in range(count)], "at": times}, schema=SCHEMA)


def data_files(lake: IcebergLake) -> list[Path]:
    """Every data file on the disk, committed or not."""
    return list(lake.root.rglob("*.parquet"))


def test_files_are_sorted_and_hold_one_bucket(lake: IcebergLake) -> None:
    """Every file has the rows of one bucket, in the order of key and time."""
    lake.append(SPEC.name, events(100))
    files = lake.files(SPEC.name)
    assert sum(file.rows for file in files) == 100
    for file in files:
        rows = lake.read(SPEC.name, [file])
        assert set(iceberg_bucket(rows.column("key").combine_chunks(), 4).to_pylist()) == {
            file.bucket
        }
        assert rows.equals(rows.sort_by([("key", "ascending"), ("at", "ascending")]))


def test_a_lake_is_opened_again_by_another_process(lake: IcebergLake) -> None:
    """A copied lake, or a second one on the same folder, sees what was committed."""
    lake.append(SPEC.name, events(5))
    assert copy.copy(lake).scan(SPEC.name).num_rows == 5
    assert IcebergLake(lake.root).describe(SPEC.name) == lake.describe(SPEC.name)


def test_staged_files_are_seen_by_nobody(lake: IcebergLake) -> None:
    """Files that were only written are invisible until one commit shows them all."""
    staged = [lake.stage(SPEC.name, events(n)) for n in (3, 4)]
    assert lake.scan(SPEC.name).num_rows == 0
    lake.commit(SPEC.name, staged)
    assert lake.scan(SPEC.name).num_rows == 7


def test_discarded_files_leave_the_disk(lake: IcebergLake) -> None:
    """Staged files that are given up are removed, committed ones never are."""
    kept, dropped = lake.stage(SPEC.name, events(3)), lake.stage(SPEC.name, events(4))
    lake.commit(SPEC.name, [kept])
    lake.discard(SPEC.name, [dropped])
    lake.discard(SPEC.name, [kept])
    assert lake.scan(SPEC.name).num_rows == 3
    assert len(data_files(lake)) == len(lake.files(SPEC.name))


def test_a_full_disk_adds_nothing(lake: IcebergLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space in the middle of a write: the error says so, and no file of it stays."""
    calls: list[int] = []

    def full_after_two(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return _dataframe_to_data_files(*args)

    lake.append(SPEC.name, events(10))
    before = data_files(lake)
    monkeypatch.setattr(iceberg_lake, "_dataframe_to_data_files", full_after_two)
    with pytest.raises(Unavailable, match="no space left") as error:
        lake.append(SPEC.name, events(100))
    assert "TONDO_HOME" in error.value.hint
    assert sorted(data_files(lake)) == sorted(before)
    assert lake.describe(SPEC.name).rows == 10


def test_many_appends_keep_few_manifests(lake: IcebergLake) -> None:
    """Small commits, as a stream makes them, do not make reading slower for ever."""
    for _ in range(60):
        lake.append(SPEC.name, events(1))
    manifests = lake._table(SPEC.name).current_snapshot().manifests(lake._table(SPEC.name).io)
    assert len(manifests) < 50
    assert lake.scan(SPEC.name).num_rows == 60


def test_a_table_without_a_namespace_is_refused() -> None:
    """Table names have two parts, and the error shows how."""
    with pytest.raises(BadInput, match="names no lake table"):
        TableSpec("events", SCHEMA)


def test_buckets_want_a_column_that_can_be_hashed(lake: IcebergLake) -> None:
    """A bucket column that is missing or a float is refused before anything is made."""
    with pytest.raises(BadInput, match="'kee'"):
        TableSpec("lake.other", SCHEMA, "kee", 4)
    floats = pa.schema([("x", pa.float64())])
    with pytest.raises(BadInput, match="cannot be bucketed"):
        lake.create(TableSpec("lake.other", floats, "x", 4))
