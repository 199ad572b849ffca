"""What every lake promises, whichever way it keeps its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from features.errors import BadInput, Conflict, NotFound
from features.offline.iceberg import IcebergLake
from features.offline.lake import DIGEST, MARK, Condition, Lake, Matcher, TableSpec
from features.offline.memory import MemoryLake

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("number", pa.int64()),
        ("value", pa.float64()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("flag", pa.bool_()),
        ("items", pa.list_(pa.float64())),
        ("counts", pa.map_(pa.string(), pa.int64())),
    ]
)
PLAIN = TableSpec("lake.plain", SCHEMA)
BUCKETED = TableSpec("lake.bucketed", SCHEMA, "key", 4, ("key", "at"))
BY_NUMBER = TableSpec("lake.by_number", SCHEMA, "number", 4, ("number", "at"))


@pytest.fixture(params=["memory", "iceberg"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """Each implementation in turn, empty."""
    made: dict[str, Callable[[], Lake]] = {
        "memory": MemoryLake,
        "iceberg": lambda: IcebergLake(tmp_path / "lake"),
    }
    return made[request.param]()


def rows(*keys: str | None, start: int = 0) -> pa.Table:
    """Some rows with these keys, their other columns told apart by position."""
    columns = {
        "key": list(keys),
        "number": [None if key is None else start + i for i, key in enumerate(keys)],
        "value": [float("nan") if i % 3 == 2 else float(start + i) for i in range(len(keys))],
        "at": [1_000_000 * (start + i) for i in range(len(keys))],
        "flag": [i % 2 == 0 for i in range(len(keys))],
        "items": [[float(i)] if i else None for i in range(len(keys))],
        "counts": [[("a", i)] if i else [] for i in range(len(keys))],
    }
    return pa.table(columns, schema=SCHEMA)


def in_order(table: pa.Table) -> list[str]:
    """The rows as text in an order of their own, because a lake keeps none."""
    return sorted(repr(row) for row in table.to_pylist())


@pytest.mark.parametrize("spec", [PLAIN, BUCKETED, BY_NUMBER], ids=lambda spec: spec.name)
def test_rows_come_back_with_their_types(lake: Lake, spec: TableSpec) -> None:
    """Whatever is appended is read back: nulls, NaN, lists, maps, null and empty keys."""
    data = rows("a", "", None, "b", "a")
    lake.create(spec)
    lake.append(spec.name, data)
    found = lake.scan(spec.name)
    assert found.schema == SCHEMA
    assert in_order(found) == in_order(data)


def test_a_snapshot_can_be_read_for_ever(lake: Lake) -> None:
    """Rows that came later are not in an older snapshot."""
    lake.create(BUCKETED)
    first = lake.append(BUCKETED.name, rows("a", "b"))
    second = lake.append(BUCKETED.name, rows("c", start=2))
    assert lake.scan(BUCKETED.name, snapshot=first).num_rows == 2
    assert lake.scan(BUCKETED.name, snapshot=second).num_rows == 3
    assert lake.scan(BUCKETED.name, snapshot=first, columns=["key"]).column_names == ["key"]


def test_an_unknown_snapshot_is_not_found(lake: Lake) -> None:
    """A snapshot that never was is an error, not an empty table."""
    lake.create(PLAIN)
    lake.append(PLAIN.name, rows("a"))
    with pytest.raises(NotFound, match="no snapshot 7"):
        lake.scan(PLAIN.name, snapshot=7)


def test_a_table_of_nothing_has_its_columns(lake: Lake) -> None:
    """An empty table is read as no rows of the promised types."""
    lake.create(PLAIN)
    assert lake.scan(PLAIN.name).schema == SCHEMA
    info = lake.describe(PLAIN.name)
    assert (info.rows, info.snapshot, info.spec) == (0, None, PLAIN)


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        (Condition("key", "==", "a"), {0, 4}),
        (Condition("key", "==", ""), {1}),
        (Condition("number", "==", 0), {0}),
        (Condition("number", "in", [0, 3]), {0, 3}),
        (Condition("number", "!=", 0), {1, 3, 4}),
        (Condition("at", "<", 3_000_000), {0, 1, None}),
        (Condition("at", ">=", 3_000_000), {3, 4}),
        (Condition("value", "!=", float("nan")), {0, 1, 3, 4, None}),
        (Condition("value", "==", float("nan")), set()),
        (Condition("value", "<=", 1.0), {0, 1}),
        (Condition("key", "in", []), set()),
    ],
    ids=str,
)
@pytest.mark.parametrize("spec", [PLAIN, BUCKETED, BY_NUMBER], ids=lambda spec: spec.name)
def test_conditions_choose_rows(
    lake: Lake, spec: TableSpec, condition: Condition, numbers: set[int | None]
) -> None:
    """Nulls never match, NaN equals nothing, and buckets change no answer."""
    lake.create(spec)
    lake.append(spec.name, rows("a", "", None, "b", "a"))
    found = lake.scan(spec.name, columns=["number"], where=[condition])
    assert set(found.column("number").to_pylist()) == numbers


def test_conditions_hold_together(lake: Lake) -> None:
    """Several conditions are joined by and, and may use columns that are not read."""
    lake.create(BUCKETED)
    lake.append(BUCKETED.name, rows("a", "b", "a"))
    both = [Condition("key", "==", "a"), Condition("at", ">", 0)]
    assert lake.scan(BUCKETED.name, columns=["number"], where=both).to_pylist() == [{"number": 2}]


def test_an_unknown_operator_is_refused(lake: Lake) -> None:
    """A condition that no lake can compare is bad input."""
    lake.create(PLAIN)
    with pytest.raises(BadInput, match="~"):
        lake.scan(PLAIN.name, where=[Condition("key", "~", "a")])


def test_the_same_digest_is_refused(lake: Lake) -> None:
    """Content that the table's history holds is a conflict, and adds nothing."""
    lake.create(PLAIN)
    lake.append(PLAIN.name, rows("a"), digest="sha256:1")
    lake.append(PLAIN.name, rows("b"))
    with pytest.raises(Conflict, match="sha256:1"):
        lake.append(PLAIN.name, rows("a"), digest="sha256:1")
    info = lake.describe(PLAIN.name)
    assert (info.rows, info.digests) == (2, frozenset({"sha256:1"}))


def test_marks_are_carried_and_other_entries_are_not(lake: Lake) -> None:
    """High-water marks stay in the latest summary until they are set anew."""
    lake.create(PLAIN)
    lake.append(PLAIN.name, rows("a"), digest="one", summary={f"{MARK}p0": "7", "why": "test"})
    lake.append(PLAIN.name, rows("b"), summary={f"{MARK}p1": "3"})
    lake.append(PLAIN.name, rows("c"), summary={f"{MARK}p1": "4"})
    summary = lake.describe(PLAIN.name).summary
    assert {k: v for k, v in summary.items() if k.startswith(MARK)} == {
        f"{MARK}p0": "7",
        f"{MARK}p1": "4",
    }
    assert "why" not in summary
    assert DIGEST not in summary


def test_several_tables_are_one_snapshot(lake: Lake) -> None:
    """An iterable of tables becomes visible all at once."""
    lake.create(BUCKETED)
    snapshot = lake.append(BUCKETED.name, (rows(key, start=i) for i, key in enumerate("abc")))
    assert lake.describe(BUCKETED.name).snapshot == snapshot
    assert lake.scan(BUCKETED.name).num_rows == 3


def test_nothing_is_added_when_the_data_fails_half_way(lake: Lake) -> None:
    """If the rows end in an error, no reader ever sees the first of them."""
    lake.create(PLAIN)

    def failing() -> Iterator[pa.Table]:
        yield rows("a")
        raise BadInput("row 2 is broken", "")

    with pytest.raises(BadInput, match="row 2"):
        lake.append(PLAIN.name, failing())
    assert lake.describe(PLAIN.name).rows == 0


def test_creating_twice_is_nothing(lake: Lake) -> None:
    """The same table again changes nothing, other columns are a conflict."""
    lake.create(PLAIN)
    lake.append(PLAIN.name, rows("a"))
    lake.create(PLAIN)
    assert lake.describe(PLAIN.name).rows == 1
    with pytest.raises(Conflict, match="key: int64"):
        lake.create(TableSpec(PLAIN.name, SCHEMA.set(0, pa.field("key", pa.int64()))))


def test_missing_columns_are_null_and_unknown_ones_refused(lake: Lake) -> None:
    """A column left out is null; one that the table does not have is told by name."""
    lake.create(PLAIN)
    lake.append(PLAIN.name, pa.table({"key": ["a"]}))
    assert lake.scan(PLAIN.name, columns=["key", "value"]).to_pylist() == [
        {"key": "a", "value": None}
    ]
    with pytest.raises(BadInput, match="'vale'") as error:
        lake.append(PLAIN.name, pa.table({"vale": [1.0]}))
    assert "value" in error.value.hint


def test_unknown_names_come_with_the_nearest(lake: Lake) -> None:
    """A misspelt table or column says what was probably meant."""
    lake.create(PLAIN)
    with pytest.raises(NotFound) as error:
        lake.describe("lake.plan")
    assert "lake.plain" in error.value.hint
    with pytest.raises(NotFound) as error:
        lake.scan(PLAIN.name, columns=["vale"])
    assert "value" in error.value.hint
    assert lake.tables() == ["lake.plain"]


def test_concurrent_appends_all_land(lake: Lake) -> None:
    """Appends at the same time lose nothing, and the same digest lands once."""
    lake.create(BUCKETED)

    def append(i: int) -> bool:
        try:
            lake.append(BUCKETED.name, rows("a", "b", start=2 * i), digest=f"d{i % 6}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        landed = sum(pool.map(append, range(12)))
    assert landed == 6
    assert lake.scan(BUCKETED.name).num_rows == 12


def of_key(key: str) -> Matcher:
    """Which rows have this key."""
    return lambda table: pc.fill_null(pc.equal(table.column("key"), key), False)


@pytest.mark.parametrize("spec", [PLAIN, BUCKETED], ids=["plain", "bucketed"])
def test_erased_rows_were_never_there(lake: Lake, spec: TableSpec) -> None:
    """In no snapshot; snapshots keep ids, digests and marks, other rows what they hold."""
    lake.create(spec)
    told = {MARK + "at": "7"}
    snapshots = [
        lake.append(spec.name, rows("a", "me", "b", "me", None), digest="one", summary=told),
        lake.append(spec.name, rows("me", start=10), digest="two"),
        lake.append(spec.name, rows("c", "a", start=20), digest="three"),
    ]
    before = {s: lake.scan(spec.name, snapshot=s) for s in snapshots}
    done = lake.erase(spec.name, ["key"], of_key("me"))
    assert done.rows == 3
    for snapshot, table in before.items():
        kept = table.filter(pc.invert(of_key("me")(table)))
        assert in_order(lake.scan(spec.name, snapshot=snapshot)) == in_order(kept)
    info = lake.describe(spec.name)
    assert (info.rows, info.snapshot, info.digests) == (5, snapshots[2], {"one", "two", "three"})
    assert info.summary[MARK + "at"] == "7"
    assert lake.erase(spec.name, ["key"], of_key("me")).rows == 0
    lake.append(spec.name, rows("me", start=30), digest="four")
    assert lake.describe(spec.name).rows == lake.scan(spec.name).num_rows == 6


def test_everything_may_be_erased(lake: Lake) -> None:
    """An emptied table still has its snapshots, and takes rows again; an empty one has nothing."""
    lake.create(PLAIN)
    assert lake.erase(PLAIN.name, ["key"], of_key("a")).rows == 0
    snapshot = lake.append(PLAIN.name, rows("a", "a"), digest="one")
    assert lake.erase(PLAIN.name, ["key"], of_key("a")).rows == 2
    assert lake.scan(PLAIN.name, snapshot=snapshot).num_rows == lake.describe(PLAIN.name).rows == 0
    with pytest.raises(Conflict):
        lake.append(PLAIN.name, rows("a"), digest="one")
    lake.append(PLAIN.name, rows("b"))
    assert lake.scan(PLAIN.name).num_rows == 1


def test_what_cannot_be_erased(lake: Lake) -> None:
    """An unknown table or column is refused with the nearest names."""
    lake.create(PLAIN)
    with pytest.raises(NotFound, match=r"lake\.plain"):
        lake.erase("lake.plane", ["key"], of_key("a"))
    with pytest.raises(NotFound, match="key"):
        lake.erase(PLAIN.name, ["kee"], of_key("a"))
