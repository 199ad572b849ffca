"""Records pass from the spool into the lake exactly once, whatever crashes in between."""

from pathlib import Path

import pyarrow as pa
import pytest

from serving.spool import SpoolCommitter, SpoolSink

TABLE = "lake.predictions_x"


class Crash(Exception):
    """Stands for the death of the process."""


class KeptTable:
    """A lake of one dict that can die before or after it has kept a batch."""

    def __init__(self) -> None:
        self.batches: dict[str, pa.Table] = {}
        self.crash = ""

    def has(self, table: str, digest: str) -> bool:
        """True if the batch was kept."""
        return digest in self.batches

    def append(self, table: str, records: pa.Table, digest: str) -> None:
        """Keeps a batch, or dies."""
        if self.crash == "before":
            raise Crash
        self.batches[digest] = records
        if self.crash == "after":
            raise Crash

    def values(self) -> list[int]:
        """Every record kept, in order."""
        return sorted(v for batch in self.batches.values() for v in batch["n"].to_pylist())


def spooled(directory: Path, *numbers: int) -> None:
    """Spools one file of records."""
    SpoolSink(directory).write(TABLE, pa.table({"n": pa.array(numbers, pa.int64())}))


def test_everything_spooled_is_committed_once(tmp_path: Path) -> None:
    """A commit takes every file, and the next one finds nothing to do."""
    lake = KeptTable()
    spooled(tmp_path, 1, 2)
    spooled(tmp_path, 3)
    committer = SpoolCommitter(tmp_path, lake)
    assert committer.commit().rows == {TABLE: 3}
    assert committer.commit().total == 0
    assert lake.values() == [1, 2, 3]


@pytest.mark.parametrize("crash", ["before", "after"])
def test_a_crash_round_the_append_neither_loses_nor_doubles(tmp_path: Path, crash: str) -> None:
    """After a death before or after the append, the next committer ends with each record once."""
    lake = KeptTable()
    spooled(tmp_path, 1, 2)
    lake.crash = crash
    with pytest.raises(Crash):
        SpoolCommitter(tmp_path, lake).commit()
    lake.crash = ""
    spooled(tmp_path, 3)
    SpoolCommitter(tmp_path, lake).commit()
    assert lake.values() == [1, 2, 3]


def test_a_crash_while_cleaning_up_does_not_double(tmp_path: Path) -> None:
    """Files already deleted after a finished append are not missed."""
    lake = KeptTable()
    spooled(tmp_path, 1)
    spooled(tmp_path, 2)
    lake.crash = "after"
    with pytest.raises(Crash):
        SpoolCommitter(tmp_path, lake).commit()
    lake.crash = ""
    next((tmp_path / TABLE).glob("*.arrow")).unlink()
    SpoolCommitter(tmp_path, lake).commit()
    assert lake.values() == [1, 2]
    assert list((tmp_path / TABLE).iterdir()) == []


def test_a_half_written_file_is_not_seen(tmp_path: Path) -> None:
    """A file gets its name only when it is complete."""
    directory = tmp_path / TABLE
    directory.mkdir()
    (directory / ".0000000001-x.arrow").write_bytes(b"half")
    assert SpoolCommitter(tmp_path, KeptTable()).commit().total == 0


def test_a_table_that_fails_holds_no_other_up(tmp_path: Path) -> None:
    """What a broken table keeps waits in the spool; every other table is committed."""

    class OneBroken(KeptTable):
        def append(self, table: str, records: pa.Table, digest: str) -> None:
            """Refuses the first of the tables."""
            if table < TABLE:
                raise Crash
            super().append(table, records, digest)

    lake = OneBroken()
    SpoolSink(tmp_path).write("lake.predictions_a", pa.table({"n": pa.array([9], pa.int64())}))
    spooled(tmp_path, 1, 2)
    with pytest.raises(Crash):
        SpoolCommitter(tmp_path, lake).commit()
    assert lake.values() == [1, 2]
    SpoolCommitter(tmp_path, healed := KeptTable()).commit()
    assert healed.values() == [9]
