"""The left side of a join and the file on its right: read whole, written whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

import features.offline.spine as spine_module
from features import Entity, FeatureView, Library, RequestView, Source, count, hours, resolve
from features.definitions import FeatureService
from features.errors import BadInput, NotFound, Unavailable
from features.expressions import col
from features.offline.exchange import read_place, write_parts, write_split
from features.offline.outputs import write_tables
from features.offline.spine import spine_parts
from features.plan import ServicePlan

PURCHASES = Source(
    "purchases", table="lake.purchases", event_time="at", schema={"user": str, "at": datetime}
)
SPEND = FeatureView(
    "spend",
    entity=Entity("user", key="user"),
    source=PURCHASES,
    features={"buys": count().over(hours(1))},
)
CART = RequestView("cart", request={"value": float}, features={"double": col("value") * 2.0})
TIMES = pa.timestamp("us", tz="UTC")


@pytest.fixture
def plan() -> ServicePlan:
    """A plan that wants a user, a cart's value and a time."""
    service = FeatureService("checkout", [SPEND, CART])
    return resolve(Library.from_definitions([PURCHASES, SPEND, CART, service]), "checkout")


def spine(rows: int) -> pa.Table:
    """A spine with a label and a column that nobody reads."""
    return pa.table(
        {
            "label": pa.array(range(rows), pa.int32()),
            "user": [f"u{i}" for i in range(rows)],
            "value": [float(i) for i in range(rows)],
            "event_time": pa.array(range(rows), TIMES),
            "note": ["007"] * rows,
        }
    )


def test_a_spine_comes_in_equal_parts(plan: ServicePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts have the same number of rows however the spine was stored, and keep its order."""
    monkeypatch.setattr(spine_module, "PART_ROWS", 4)
    whole = pa.concat_tables([spine(3), spine(6), spine(1)])
    parts = list(spine_parts(whole, plan, "event_time"))
    assert [part.num_rows for part in parts] == [4, 4, 2]
    assert pa.concat_tables(parts).equals(whole)


def test_a_parquet_spine_keeps_its_columns(plan: ServicePlan, tmp_path: Path) -> None:
    """Columns that the plan does not read pass through with their own types."""
    pq.write_table(spine(5), tmp_path / "spine.parquet", row_group_size=2)
    parts = list(spine_parts(tmp_path / "spine.parquet", plan, "event_time"))
    assert pa.concat_tables(parts).equals(spine(5))


def test_a_csv_spine_gets_the_types_of_the_plan(plan: ServicePlan, tmp_path: Path) -> None:
    """Keys stay text however much they look like numbers; other columns are inferred."""
    text = "label,user,value,event_time\n1,007,2,2026-01-01T00:00:00Z\n0,,,\n"
    (tmp_path / "spine.csv").write_text(text)
    (part,) = spine_parts(tmp_path / "spine.csv", plan, "event_time")
    assert part.schema.field("label").type == pa.int64()
    assert part.column("user").to_pylist() == ["007", None]
    assert part.column("value").to_pylist() == [2.0, None]
    assert part.column("event_time").null_count == 1


def test_an_ndjson_spine_is_read(plan: ServicePlan, tmp_path: Path) -> None:
    """NDJSON rows may leave columns out; they are null then."""
    lines = [
        '{"user": "a", "value": 1, "event_time": "2026-01-01T00:00:00Z", "label": true}',
        '{"user": "b", "event_time": null}',
    ]
    (tmp_path / "spine.ndjson").write_text("\n".join(lines))
    (part,) = spine_parts(tmp_path / "spine.ndjson", plan, "event_time")
    assert part.to_pydict()["label"] == [True, None]
    assert part.column("value").to_pylist() == [1.0, None]


@pytest.mark.parametrize("kind", ["table", "parquet", "csv"])
def test_a_missing_time_column_hints_at_the_option(
    plan: ServicePlan, tmp_path: Path, kind: str
) -> None:
    """A spine without ``event_time`` is told how to name its time column."""
    table = spine(2).rename_columns(["label", "user", "value", "at", "note"])
    path = tmp_path / f"spine.{kind}"
    if kind != "table":
        (pq.write_table if kind == "parquet" else csv.write_csv)(table, path)
    with pytest.raises(BadInput, match="no time column 'event_time'") as error:
        list(spine_parts(table if kind == "table" else path, plan, "event_time"))
    assert "--time" in error.value.hint


def test_a_missing_key_is_told(plan: ServicePlan) -> None:
    """A spine without an entity's key cannot be answered."""
    with pytest.raises(BadInput, match="no column 'user'"):
        list(spine_parts(spine(2).drop_columns(["user"]), plan, "event_time"))


def test_an_empty_spine_is_one_empty_part(plan: ServicePlan, tmp_path: Path) -> None:
    """No rows in, no rows out, with all columns."""
    pq.write_table(spine(0), tmp_path / "spine.parquet")
    for given in (spine(0), tmp_path / "spine.parquet"):
        (part,) = spine_parts(given, plan, "event_time")
        assert (part.num_rows, part.schema) == (0, spine(0).schema)


def test_a_missing_spine_is_not_found(plan: ServicePlan, tmp_path: Path) -> None:
    """A path that leads nowhere is said to."""
    with pytest.raises(NotFound, match="there is no file"):
        list(spine_parts(tmp_path / "nowhere.parquet", plan, "event_time"))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_the_same_tables_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    """What is written depends on nothing but the tables."""
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    assert write_tables(first, [spine(3), spine(2)]) == 5
    write_tables(second, iter([spine(3), spine(2)]))
    assert first.read_bytes() == second.read_bytes()


def test_a_failing_output_leaves_the_old_one(tmp_path: Path) -> None:
    """If the rows end in an error, or the disk is full, the file is as it was before."""
    path = tmp_path / "out.parquet"
    write_tables(path, [spine(1)])

    def failing(error: Exception) -> Iterator[pa.Table]:
        yield spine(3)
        raise error

    with pytest.raises(BadInput):
        write_tables(path, failing(BadInput("no", "")))
    with pytest.raises(Unavailable, match="No space left"):
        write_tables(path, failing(OSError(errno.ENOSPC, "No space left on device")))
    assert pq.read_table(path).num_rows == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "told"),
    [("out.txt", "not a kind of file"), ("no/out.csv", "no folder"), ("f.csv", "is a folder")],
)
def test_an_impossible_output_is_refused_at_once(tmp_path: Path, name: str, told: str) -> None:
    """A wrong suffix, a missing folder or a folder is told before the work begins."""
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(BadInput, match=told):
        write_tables(tmp_path / name, [spine(1)])


def test_csv_refuses_lists(tmp_path: Path) -> None:
    """A list or a map does not fit into a CSV field, and the hint says what does."""
    table = pa.table({"last_5": [[1.0]]})
    with pytest.raises(BadInput, match="'last_5'") as error:
        write_tables(tmp_path / "out.csv", [table])
    assert ".parquet" in error.value.hint


def test_an_exchange_brings_every_row_to_its_place(tmp_path: Path) -> None:
    """Rows keep their order within a place, and no place is forgotten."""
    place = np.array([2, 0, 2, 2, 0])
    assert write_split(tmp_path / "x.arrow", spine(5), place, 4) == [2, 0, 3, 0]
    found = [read_place([tmp_path / "x.arrow"], n).column("label").to_pylist() for n in range(4)]
    assert found == [[1, 4], [], [0, 2, 3], []]


def test_parts_are_read_one_by_one(tmp_path: Path) -> None:
    """Each part is one place of the file, chunked tables and empty ones included."""
    tables = [pa.concat_tables([spine(1), spine(2)]), spine(0), spine(4)]
    assert write_parts(tmp_path / "p.arrow", tables) == [3, 0, 4]
    assert [read_place([tmp_path / "p.arrow"], n).num_rows for n in range(3)] == [3, 0, 4]
