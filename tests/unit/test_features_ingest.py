"""Files into the lake: what enters, what is refused, and what is said about it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from features import Source
from features.errors import BadInput, DefinitionError, NotFound, TondoError
from features.offline.iceberg import IcebergLake
from features.offline.ingest import IngestReport, ingest
from features.offline.lake import OFFSET, PARTITION, Lake
from features.offline.memory import MemoryLake

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LANDINGS = Source(
    "landings",
    table="lake.landings",
    event_time="landed_at",
    available_at="reported_at",
    bucket_by="carrier",
    schema={
        "carrier": str,
        "delay": float,
        "seats": int,
        "diverted": bool,
        "landed_at": datetime,
        "reported_at": datetime,
    },
)
ROW = {
    "carrier": "AA",
    "delay": 1.5,
    "seats": 100,
    "diverted": False,
    "landed_at": NOW - timedelta(hours=2),
    "reported_at": NOW - timedelta(hours=1),
}


class Frozen:
    """A clock that stands still."""

    def now(self) -> int:
        """The time, UTC µs."""
        return int(NOW.timestamp()) * 1_000_000


@pytest.fixture(params=["memory", "iceberg"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """Each lake in turn, empty."""
    return MemoryLake() if request.param == "memory" else IcebergLake(tmp_path / "lake")


def take(lake: Lake, *paths: Path, source: Source = LANDINGS, **more: Any) -> IngestReport:
    """Ingests by the frozen clock."""
    return ingest(lake, source, list(paths), clock=Frozen(), **more)


def rows_of(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The example's row, once for each set of changes."""
    return [ROW | change for change in changes]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a Parquet file."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a CSV file."""
    csv.write_csv(pa.Table.from_pylist(rows), path)
    return path


def write_ndjson(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as NDJSON."""
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    return path


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "ndjson": write_ndjson,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(lake: Lake, tmp_path: Path, kind: str) -> None:
    """Parquet, CSV and NDJSON bring the same values and nulls, and no log position."""
    rows = rows_of(
        {}, {"carrier": None, "delay": None, "seats": 7}, {"diverted": True, "seats": -(2**62)}
    )
    report = take(lake, WRITERS[kind](tmp_path / f"events.{kind}", rows))
    found = lake.scan("lake.landings").to_pylist()
    assert (report.rows, report.refused, report.malformed) == (3, 0, 0)
    assert report.snapshot == lake.describe("lake.landings").snapshot
    expected = [row | {PARTITION: None, OFFSET: None} for row in rows]
    assert sorted(found, key=itemgetter("seats")) == sorted(expected, key=itemgetter("seats"))


def test_the_same_file_twice_is_nothing_to_do(lake: Lake, tmp_path: Path) -> None:
    """A file is known by its bytes, whatever its name; ``again`` takes it in once more."""
    path = write_csv(tmp_path / "events.csv", rows_of({}))
    first = take(lake, path)
    second = take(lake, path.rename(tmp_path / "other.csv"))
    assert (second.nothing_to_do, second.rows, second.snapshot) == (True, 0, first.snapshot)
    assert second.skipped == (str(tmp_path / "other.csv"),)
    assert lake.describe("lake.landings").rows == 1
    assert take(lake, tmp_path / "other.csv", again=True).rows == 1
    assert lake.describe("lake.landings").rows == 2


def test_only_the_files_that_are_new_are_read(lake: Lake, tmp_path: Path) -> None:
    """Of several files those already there are skipped, and the rest is one snapshot."""
    known = write_csv(tmp_path / "known.csv", rows_of({}))
    take(lake, known)
    fresh = write_parquet(tmp_path / "fresh.parquet", rows_of({"carrier": "UA"}))
    twin = tmp_path / "twin.parquet"
    twin.write_bytes(fresh.read_bytes())
    report = take(lake, known, fresh, twin)
    assert (report.rows, report.nothing_to_do) == (1, False)
    assert len(report.skipped) == 2
    assert take(lake, known, fresh).nothing_to_do


def test_one_bad_file_keeps_all_out(lake: Lake, tmp_path: Path) -> None:
    """Several files are one commit: a broken one means that none of them entered."""
    good = write_csv(tmp_path / "good.csv", rows_of({}))
    bad = write_csv(tmp_path / "bad.csv", rows_of({"delay": "soon"}))
    with pytest.raises(BadInput):
        take(lake, good, bad)
    assert lake.describe("lake.landings").rows == 0
    assert take(lake, good).rows == 1


def test_rows_from_the_future_are_refused_and_counted(lake: Lake, tmp_path: Path) -> None:
    """More than a day ahead is refused row by row; a day, and any event time ahead, is not."""
    day = NOW + timedelta(days=1)
    rows = rows_of(
        {"reported_at": day},
        {"reported_at": day + timedelta(microseconds=1)},
        {"landed_at": NOW + timedelta(days=300)},
    )
    report = take(lake, write_parquet(tmp_path / "events.parquet", rows))
    assert (report.rows, report.refused, report.malformed) == (2, 1, 0)


def test_rows_without_a_time_become_dead_letters(lake: Lake, tmp_path: Path) -> None:
    """Rows that cannot be placed in time are kept aside with their reason and file."""
    rows = rows_of({}, {"landed_at": None}, {"reported_at": None, "carrier": "UA"})
    path = write_csv(tmp_path / "events.csv", rows)
    report = take(lake, path)
    assert (report.rows, report.refused, report.malformed) == (1, 0, 2)
    letters = lake.scan("lake.landings_dead_letters")
    assert sorted(letters.column("__reason").to_pylist()) == ["no landed_at", "no reported_at"]
    assert set(letters.column("__file").to_pylist()) == {"events.csv"}
    assert take(lake, path).nothing_to_do
    assert lake.describe("lake.landings_dead_letters").rows == 2


def test_no_dead_letters_make_no_table(lake: Lake, tmp_path: Path) -> None:
    """A clean file leaves no empty dead-letter table behind."""
    take(lake, write_csv(tmp_path / "events.csv", rows_of({})))
    assert lake.tables() == ["lake.landings"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_naive_time_is_refused_with_a_hint(lake: Lake, tmp_path: Path, kind: str) -> None:
    """A time without a zone names its column, and the hint says how to write one."""
    rows = rows_of({"landed_at": datetime(2026, 1, 1)})  # noqa: DTZ001
    with pytest.raises(BadInput, match=r"'landed_at'.* zone") as error:
        take(lake, WRITERS[kind](tmp_path / f"events.{kind}", rows))
    assert "UTC" in error.value.hint
    assert lake.describe("lake.landings").rows == 0


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-01-01T00:00:00.1234567Z", 123_456),
        ("2026-01-01 02:00:00.5+02:00", 500_000),
        ("2025-12-31T19:00:00-05:00", 0),
    ],
)
def test_times_are_utc_and_nanoseconds_are_floored(
    lake: Lake, tmp_path: Path, text: str, micros: int
) -> None:
    """Any zone is understood, and what is finer than a microsecond is cut off."""
    write_ndjson(tmp_path / "a.ndjson", rows_of({"landed_at": text}))
    take(lake, tmp_path / "a.ndjson")
    found = lake.scan("lake.landings").column("landed_at").to_pylist()
    assert found == [NOW + timedelta(microseconds=micros)]


def test_nanoseconds_in_parquet_are_floored(lake: Lake, tmp_path: Path) -> None:
    """Before 1970 too, a time goes down to its microsecond and not towards zero."""
    table = pa.Table.from_pylist(rows_of({"reported_at": NOW}))
    times = pa.array([-1], pa.timestamp("ns", tz="UTC"))
    pq.write_table(table.set_column(4, "landed_at", times), tmp_path / "a.parquet")
    take(lake, tmp_path / "a.parquet")
    found = lake.scan("lake.landings").column("landed_at").cast(pa.int64()).to_pylist()
    assert found == [-1]


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("csv", {"seats": "many"}, "'seats', row 2: 'many' is not int"),
        ("csv", {"delay": "soon"}, "'delay', row 2: 'soon' is not float"),
        ("csv", {"diverted": "perhaps"}, "'diverted', row 2: 'perhaps' is not bool"),
        ("csv", {"landed_at": "yesterday"}, "'landed_at', row 2: 'yesterday' is not time"),
        ("ndjson", {"seats": 1.5}, "'seats', line 2: 1.5 is not int"),
        ("ndjson", {"seats": True}, "'seats', line 2: True is not int"),
        ("ndjson", {"carrier": 7}, "'carrier', line 2: 7 is not str"),
        ("ndjson", {"landed_at": 7}, "'landed_at', line 2: 7 is not time"),
        ("ndjson", {"seats": 2**63}, "'seats'"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(
    lake: Lake, tmp_path: Path, kind: str, change: dict[str, Any], told: str
) -> None:
    """The error names file, column, row and value, and hints at what to write."""
    rows = rows_of({"delay": "1.5", "seats": "1", "diverted": "true"}, change)
    if kind == "ndjson":
        rows = rows_of({}, change)
    else:
        rows = [{k: None if v is None else str(v) for k, v in row.items()} for row in rows]
    with pytest.raises(BadInput, match=told) as error:
        take(lake, WRITERS[kind](tmp_path / f"events.{kind}", rows))
    assert error.value.what.startswith(f"events.{kind}")
    assert error.value.hint


@pytest.mark.parametrize(
    ("column", "values"),
    [("carrier", [7]), ("seats", ["7"]), ("seats", [7.0]), ("landed_at", ["2026-01-01T00:00Z"])],
)
def test_parquet_of_another_type_is_refused_not_cast(
    lake: Lake, tmp_path: Path, column: str, values: list[Any]
) -> None:
    """A key of another type would match nothing: the file is refused as a whole."""
    table = pa.Table.from_pylist(rows_of({}))
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=f"'{column}'"):
        take(lake, tmp_path / "a.parquet")


def test_whole_numbers_may_stand_for_floats(lake: Lake, tmp_path: Path) -> None:
    """Integers in a float column are taken where a float holds them exactly."""
    take(lake, write_parquet(tmp_path / "a.parquet", rows_of({"delay": 3})))
    assert lake.scan("lake.landings").column("delay").to_pylist() == [3.0]
    with pytest.raises(BadInput, match="9007199254740993"):
        take(lake, write_parquet(tmp_path / "b.parquet", rows_of({"delay": 2**53 + 1})))


def test_missing_columns_are_told_with_the_nearest(lake: Lake, tmp_path: Path) -> None:
    """A misspelt column is refused, with what was probably meant."""
    rows = [{("carier" if k == "carrier" else k): v for k, v in ROW.items()}]
    with pytest.raises(BadInput, match="no column 'carrier'") as error:
        take(lake, write_csv(tmp_path / "events.csv", rows))
    assert "carier" in error.value.hint


def test_unknown_columns_are_ignored_and_reported(lake: Lake, tmp_path: Path) -> None:
    """Columns that the source does not declare do no harm and are named in the report."""
    report = take(lake, write_csv(tmp_path / "events.csv", rows_of({"gate": "B7"})))
    assert report.ignored == ("gate",)
    assert "gate" not in lake.describe("lake.landings").schema.names


@pytest.mark.parametrize(
    ("name", "content", "error", "told"),
    [
        ("events.txt", b"a", BadInput, ".txt is not a kind of file"),
        ("events.parquet", b"PAR1 and then nothing", BadInput, "not a Parquet file"),
        ("events.csv", b"", BadInput, "not a whole csv file"),
        ("events.csv", b"a,a\n1,2\n", BadInput, "two columns 'a'"),
        ("events.ndjson", b'{"carrier": "AA"}\n{oops\n', BadInput, "line 2: not JSON"),
        ("events.ndjson", b"[1]\n", BadInput, "line 1: a list"),
    ],
)
def test_files_that_are_no_such_files_are_refused(
    lake: Lake, tmp_path: Path, name: str, content: bytes, error: type[TondoError], told: str
) -> None:
    """Damaged, empty or strange files are an error with a reason, never a stack trace."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=told):
        take(lake, tmp_path / name)


def test_a_csv_row_of_another_length_is_told(lake: Lake, tmp_path: Path) -> None:
    """A row with too few fields is refused with its number."""
    path = write_csv(tmp_path / "events.csv", rows_of({}))
    path.write_bytes(path.read_bytes() + b"AA,1\n")
    with pytest.raises(BadInput, match="Row #3"):
        take(lake, path)


def test_a_missing_file_is_not_found(lake: Lake, tmp_path: Path) -> None:
    """A path that leads nowhere says where to look; a folder says what to name."""
    with pytest.raises(NotFound, match=r"nowhere\.csv") as error:
        take(lake, tmp_path / "nowhere.csv")
    assert str(tmp_path) in error.value.hint
    with pytest.raises(BadInput, match="is a folder"):
        take(lake, tmp_path)
    with pytest.raises(BadInput, match="no file"):
        take(lake)


def test_compressed_text_is_read(lake: Lake, tmp_path: Path) -> None:
    """CSV and NDJSON may be gzipped."""
    plain = write_ndjson(tmp_path / "a.ndjson", rows_of({}))
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(plain.read_bytes()))
    table = write_csv(tmp_path / "c.csv", rows_of({}))
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(table.read_bytes()))
    assert take(lake, tmp_path / "b.ndjson.gz", tmp_path / "d.csv.gz").rows == 2


def test_empty_text_and_missing_text_differ(lake: Lake, tmp_path: Path) -> None:
    """In CSV an empty field is null and a quoted empty field is an empty text."""
    head = ",".join(ROW)
    rest = "1,1,true,2025-12-31T00:00Z,2025-12-31T00:00Z"
    (tmp_path / "a.csv").write_text(f'{head}\n"",{rest}\n,{rest}\n')
    take(lake, tmp_path / "a.csv")
    assert set(lake.scan("lake.landings").column("carrier").to_pylist()) == {"", None}


def test_a_source_without_a_schema_takes_the_files(lake: Lake, tmp_path: Path) -> None:
    """The first Parquet file gives the table its types, and later files must fit them."""
    loose = Source("loose", table="lake.loose", event_time="landed_at")
    with pytest.raises(DefinitionError, match="declares no schema"):
        take(lake, write_csv(tmp_path / "a.csv", rows_of({})), source=loose)
    assert take(lake, write_parquet(tmp_path / "a.parquet", rows_of({})), source=loose).rows == 1
    assert take(lake, write_csv(tmp_path / "b.csv", rows_of({})), source=loose).rows == 1


def test_progress_is_told(lake: Lake, tmp_path: Path) -> None:
    """Whoever asks is told how many rows are in, of how many."""
    told: list[tuple[str, int, int]] = []
    path = write_parquet(tmp_path / "a.parquet", rows_of({}, {}))
    take(lake, path, progress=lambda *step: told.append(step))
    assert told == [("ingest landings", 2, 2)]
