"""Files through the log: every row once, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import Source
from features.errors import BadInput, Conflict, NotFound, Unavailable
from features.offline.buckets import bucket_of
from features.stream import intake
from features.stream.intake import ORIGIN, append_files, partitions_of
from features.stream.memory import MemoryLog
from features.testing import ManualClock

SOURCE = Source("s", table="lake.s", stream="s", event_time="at", available_at="known",
                partitions=3, bucket_by="k",
                schema={"k": str, "x": float, "at": "time", "known": "time"})  # fmt: skip


class TornLog(MemoryLog):
    """Fails at the n-th append, before or after the rows are in."""

    def __init__(self, fails_at: int, is_after: bool) -> None:
        super().__init__(3, ManualClock())
        self.left, self.is_after = fails_at, is_after

    def append(self, partition: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Appends, unless it is time to fail."""
        self.left -= 1
        if self.left == 0 and not self.is_after:
            raise Unavailable("torn")
        end = super().append(partition, rows)
        if self.left == 0:
            raise Unavailable("torn")
        return end


def write(path: Path, count: int, start: int = 0) -> Path:
    """A Parquet file of so many rows, of a few keys."""
    rows = [
        {"k": f"k{i % 5}" if i % 7 else None, "x": i / 2 if i % 3 else None, "at": i, "known": None}
        for i in range(start, start + count)
    ]
    table = pa.Table.from_pylist(rows)
    at = table.column("at").cast(pa.timestamp("us", tz="UTC"))
    known = pa.nulls(count, pa.timestamp("us", tz="UTC"))
    columns = {"k": table.column("k"), "x": table.column("x").cast(pa.float64())}
    pq.write_table(pa.table({**columns, "at": at, "known": known}), path)
    return path


def rows_of(log: MemoryLog) -> list[list[tuple[Any, ...]]]:
    """What the log holds, by partition, in its order."""
    return [
        [(e.row["k"], e.row["x"], e.row["at"]) for e in log.read(partition, 0, 10_000)]
        for partition in range(log.partitions)
    ]


def test_rows_go_to_the_partition_of_their_key(tmp_path: Path) -> None:
    """In the order of the file, with times as µs, and nulls as they are."""
    log = MemoryLog(3, ManualClock())
    told: list[tuple[str, int, int]] = []
    done = append_files(log, SOURCE, [write(tmp_path / "a.parquet", 50)], tmp_path / "files",
                        progress=lambda *step: told.append(step))  # fmt: skip
    assert (done.rows, done.skipped, done.ignored) == (50, (), ())
    assert told[-1] == ("append s", 50, 50)
    for partition, rows in enumerate(rows_of(log)):
        assert [at for _, _, at in rows] == sorted(at for _, _, at in rows)
        for key, x, at in rows:
            assert bucket_of(pa.table({"k": pa.array([key], pa.string())}), 3)[0] == partition
            assert x == (at / 2 if at % 3 else None)
    assert sum(map(len, rows_of(log))) == 50


def test_the_same_file_twice_is_nothing_to_do(tmp_path: Path) -> None:
    """By its bytes, whatever its name; ``again`` appends it once more."""
    log, path = MemoryLog(3, ManualClock()), write(tmp_path / "a.parquet", 20)
    append_files(log, SOURCE, [path], tmp_path / "files")
    moved = path.rename(tmp_path / "b.parquet")
    done = append_files(log, SOURCE, [moved], tmp_path / "files")
    assert (done.rows, done.skipped) == (0, (str(moved),))
    assert append_files(log, SOURCE, [moved], tmp_path / "files", again=True).rows == 20
    assert sum(map(len, rows_of(log))) == 40
    both = [moved, write(tmp_path / "c.parquet", 5, 100)]
    assert append_files(log, SOURCE, both, tmp_path / "files").skipped == (str(moved),)
    assert sum(map(len, rows_of(log))) == 45


@given(fails_at=st.integers(1, 14), is_after=st.booleans(), again=st.booleans())
def test_an_interrupted_file_is_finished_and_not_repeated(
    tmp_path_factory: pytest.TempPathFactory, fails_at: int, is_after: bool, again: bool
) -> None:
    """Wherever it stopped, and whatever others appended meanwhile."""
    folder = tmp_path_factory.mktemp("files")
    path = write(folder / "a.parquet", 60)
    calm, torn = MemoryLog(3, ManualClock()), TornLog(fails_at, is_after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "_ROWS", 16)
        append_files(calm, SOURCE, [path], folder / "calm")
        with pytest.raises(Unavailable, match="torn"):  # noqa: PT012
            append_files(torn, SOURCE, [path], folder / "torn")
            append_files(torn, SOURCE, [path], folder / "torn", again=True)
        torn.left = 0
        for partition in range(3):
            torn.append(partition, [{"k": "other", "x": None, "at": -1}])
        append_files(torn, SOURCE, [path], folder / "torn", again=again)
        append_files(torn, SOURCE, [path], folder / "torn")
    mine = [[row for row in rows if row[0] != "other"] for rows in rows_of(torn)]
    times = len(mine[0]) // len(rows_of(calm)[0])
    assert mine == [rows * times for rows in rows_of(calm)]


def test_a_bad_file_keeps_all_out(tmp_path: Path) -> None:
    """Files are looked through before the first row is appended."""
    log, good = MemoryLog(3, ManualClock()), write(tmp_path / "a.parquet", 20)
    bad = tmp_path / "b.csv"
    bad.write_text("k,x,at,known\na,soon,1970-01-01T00:00Z,\n")
    with pytest.raises(BadInput, match="'soon' is not float"):
        append_files(log, SOURCE, [good, bad], tmp_path / "files")
    with pytest.raises(NotFound, match=r"nowhere\.csv"):
        append_files(log, SOURCE, [good, tmp_path / "nowhere.csv"], tmp_path / "files")
    with pytest.raises(BadInput, match="no file"):
        append_files(log, SOURCE, [], tmp_path / "files")
    assert rows_of(log) == [[], [], []]
    assert append_files(log, SOURCE, [good], tmp_path / "files").rows == 20


def test_one_at_a_time(tmp_path: Path) -> None:
    """Two that append files at once would count one's rows as the other's."""
    log, path = MemoryLog(3, ManualClock()), write(tmp_path / "a.parquet", 20)

    def meanwhile(*step: Any) -> None:
        with pytest.raises(Conflict, match="somebody else"):
            append_files(log, SOURCE, [path], tmp_path / "files")

    append_files(log, SOURCE, [path], tmp_path / "files", progress=meanwhile)
    assert sum(map(len, rows_of(log))) == 20


def test_columns_that_the_source_has_not_stay_out(tmp_path: Path) -> None:
    """They are named; and each row says where it came from."""
    (tmp_path / "a.csv").write_text("k,x,at,known,gate\na,1,1970-01-01T00:00Z,,B7\n")
    log = MemoryLog(3, ManualClock())
    done = append_files(log, SOURCE, [tmp_path / "a.csv"], tmp_path / "files")
    assert done.ignored == ("gate",)
    (event,) = [event for p in range(3) for event in log.read(p, 0, 9)]
    assert set(event.row) == {*SOURCE.columns, ORIGIN}


def test_a_source_without_a_bucket_is_placed_by_a_column_that_can_be() -> None:
    """By the first that is not a float."""
    made = Source("t", table="lake.t", stream="t", event_time="at", available_at="known",
                  partitions=3,
                  schema={"x": float, "n": int, "at": "time", "known": "time"})  # fmt: skip
    rows = pa.table({"x": [0.5] * 4, "n": [1, 2, 3, None], "at": [1, 2, 3, 4]})
    assert partitions_of(made, rows, 3) == bucket_of(rows.select(["n"]), 3).tolist()
    assert partitions_of(made, rows, 1) == [0] * 4
