"""Erasures that are cut off: the old state or the new one, and the same call again finishes."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from features.errors import Conflict
from features.offline.iceberg import IcebergLake
from features.offline.lake import TableSpec
from features.online.lmdb import LmdbStore
from features.online.store import Head, Version
from features.stream import eraser
from features.stream.checkpoint import Checkpoint, erase_cells
from features.stream.embedded import EmbeddedLog
from features.testing import ManualClock

KEY = secrets.token_hex(16)
TABLE = TableSpec(
    "lake.t", pa.schema([("key", pa.string()), ("n", pa.int64())]), "key", 4, ("key",)
)
VERSION = Version("v@1", 1, 10, 1)


class Cut(BaseException):
    """The process is dead."""


def held(folder: Path) -> list[str]:
    """The files below a folder whose bytes hold the key."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if KEY.encode() in path.read_bytes()]


def matches(rows: pa.Table) -> Any:
    """The rows of the key."""
    return pc.equal(rows.column("key"), KEY)


def filled(folder: Path) -> IcebergLake:
    """A table with the key in two of its three snapshots."""
    lake = IcebergLake(folder)
    lake.create(TABLE)
    for start in (0, 10, 20):
        keys = ["a", "b", KEY if start else "c"]
        lake.append(TABLE.name, pa.table({"key": keys, "n": [start, start + 1, start + 2]}))
    return lake


@pytest.mark.parametrize("step", ["look", "rewrite", "commit", "sweep"])
def test_a_lake_erasure_that_is_cut_off(tmp_path: Path, step: str) -> None:
    """At each of its steps: all rows or none of the key are there; then it is finished."""
    lake = filled(tmp_path)
    before = lake.scan(TABLE.name).sort_by("n")

    def told(now: str) -> None:
        if now == step:
            raise Cut

    with pytest.raises(Cut):
        lake.erase(TABLE.name, ["key"], matches, told)
    again = IcebergLake(tmp_path)
    kept = before.filter(pc.invert(matches(before)))
    after = again.scan(TABLE.name).sort_by("n")
    assert after.equals(kept if step == "sweep" else before)
    assert again.erase(TABLE.name, ["key"], matches).rows == (0 if step == "sweep" else 2)
    assert again.scan(TABLE.name).sort_by("n").equals(kept)
    assert held(tmp_path) == []
    files = {
        Path(f.path) for s in again_snapshots(again) for f in again.files(TABLE.name, snapshot=s)
    }
    assert set(tmp_path.rglob("*.parquet")) == files


def again_snapshots(lake: IcebergLake) -> list[int]:
    """The ids of all snapshots of the table."""
    return [snapshot.snapshot_id for snapshot in lake._table(TABLE.name).snapshots()]


def test_files_of_a_write_that_was_cut_off_go_too(tmp_path: Path) -> None:
    """Staged and never committed, they hold the key, and no snapshot knows them."""
    lake = filled(tmp_path)
    lake.stage(TABLE.name, pa.table({"key": [KEY], "n": [99]}))
    lake.erase(TABLE.name, ["key"], matches)
    assert held(tmp_path) == []


def test_writers_and_erasers_keep_each_other_out(tmp_path: Path) -> None:
    """Neither waits: the second is told; writers do not disturb one another."""
    lake = filled(tmp_path)
    with (
        lake.writing(TABLE.name),
        lake.writing(TABLE.name),
        pytest.raises(Conflict, match="somebody writes to"),
    ):
        lake.erase(TABLE.name, ["key"], matches)

    def told(step: str) -> None:
        if step == "commit":
            with pytest.raises(Conflict, match="being erased"):
                lake.append(TABLE.name, pa.table({"key": ["x"], "n": [1]}))

    assert lake.erase(TABLE.name, ["key"], matches, told).rows == 2
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lake.append, TABLE.name, pa.table({"key": ["x"], "n": [1]}))
        assert done.result(timeout=60)


def test_the_log_is_erased_segment_by_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off between two segments, some are done; readers, old and new, go on at any time."""
    clock = ManualClock(1)
    log = EmbeddedLog(tmp_path, 1, clock, segment_bytes=150)
    for number in range(12):
        log.append(0, [{"key": KEY if number % 3 == 0 else "other", "n": number}])
    reader = EmbeddedLog(tmp_path, 1, clock, segment_bytes=150)
    before = reader.read(0, 0, 99)
    cut_after(monkeypatch, 1)
    with pytest.raises(Cut):
        log.erase({0: [0, 3, 6, 9]})
    for one in (reader, EmbeddedLog(tmp_path, 1, clock)):
        seen = one.read(0, 0, 99)
        assert [event.offset for event in seen] == list(range(12))
        assert [e for e in seen if not e.erased] == [e for e in before if not seen[e.offset].erased]
    assert 0 < sum(event.erased for event in seen) < 4
    monkeypatch.undo()
    assert log.erase({0: [0, 3, 6, 9]}) == 4 - sum(event.erased for event in seen)
    assert held(tmp_path) == []
    assert reader.read(0, 9, 1)[0].erased
    assert log.append(0, [{"n": 12}]) == 13
    assert reader.read(0, 12, 1)[0].row == {"n": 12}


def cut_after(monkeypatch: pytest.MonkeyPatch, segments: int) -> None:
    """The process dies after some segments were replaced."""
    replace, left = eraser._replace, [segments]

    def cut(*arguments: Any) -> None:
        if not left[0]:
            raise Cut
        left[0] -= 1
        replace(*arguments)

    monkeypatch.setattr(eraser, "_replace", cut)


def test_a_log_that_others_append_to_is_not_erased(tmp_path: Path) -> None:
    """Whoever has the partition is told, and nothing changed; who erases lets go of it again."""
    clock = ManualClock(1)
    one, two = (EmbeddedLog(tmp_path, 1, clock) for _ in range(2))
    one.append(0, [{"key": KEY}])
    with pytest.raises(Conflict, match="already appends"):
        two.erase({0: [0]})
    assert one.erase({0: [0]}) == 1
    assert two.append(0, [{"n": 1}]) == 2


def test_rows_that_were_torn_by_a_crash_go_too(tmp_path: Path) -> None:
    """What an append that never ended left behind the mark is in no event, and not in the file."""
    log = EmbeddedLog(tmp_path, 1, ManualClock(1))
    log.append(0, [{"n": 1}])
    log.close()
    with (tmp_path / "0" / f"{0:020d}.log").open("ab") as file:
        file.write(b"torn" + KEY.encode())
    assert EmbeddedLog(tmp_path, 1, ManualClock(1)).erase({0: [5]}) == 0
    assert held(tmp_path) == []


def store_with_key(folder: Path) -> LmdbStore:
    """A version with the key in tail and head, and many others."""
    store = LmdbStore(folder)
    cells = [(b"k%d" % i, b"c" * 100) for i in range(500)]
    mine = (b"s" + KEY.encode(), b"cell " + KEY.encode())
    store.write_tail(VERSION, [*cells, mine])
    store.write_head(VERSION, 0, [*cells, mine], Head(1, 11, 11))
    store.publish(VERSION)
    return store


def test_lmdb_files_do_not_keep_what_was_erased(tmp_path: Path) -> None:
    """Neither the cell nor the key is anywhere in the files; a second process reads on."""
    store, other = store_with_key(tmp_path), LmdbStore(tmp_path)
    wanted = [("v@1", b"s" + KEY.encode()), ("v@1", b"k7")]
    assert other.read(wanted, 20)[0].tail is not None
    assert store.erase("v@1", [b"s" + KEY.encode()]) == 2
    assert held(tmp_path) == []
    for one in (store, other):
        gone, kept = one.read(wanted, 20)
        assert (gone.tail, gone.heads, kept.tail, kept.heads) == (
            *(None, (None,)),
            *(b"c" * 100, (b"c" * 100,)),
        )
    store.write_head(VERSION, 0, [(b"k7", b"new")], Head(2, 12, 12))
    assert other.read(wanted, 20)[1].heads == (b"new",)


@pytest.mark.parametrize("calls", [0, 1])
def test_an_online_erasure_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """While it copies: everything is as it was; the next call leaves nothing behind."""
    from features.online.lmdb import erasure

    store, copy, left = store_with_key(tmp_path), erasure.copy_without, [calls]

    def cut(*arguments: Any) -> None:
        if not left[0]:
            raise Cut
        left[0] -= 1
        copy(*arguments)

    monkeypatch.setattr(erasure, "copy_without", cut)
    with pytest.raises(Cut):
        store.erase("v@1", [b"s" + KEY.encode()])
    monkeypatch.undo()
    found = store.read([("v@1", b"s" + KEY.encode())], 20)[0]
    assert found.tail is not None
    assert found.heads[0] is not None
    assert store.erase("v@1", [b"s" + KEY.encode()]) == 2
    assert held(tmp_path) == []
    assert len(list(tmp_path.glob("*.tail"))) == len(list(tmp_path.glob("*.head"))) == 1


def is_mine(space: str, key: bytes, value: bytes) -> bool:
    """Whether a cell is the key's."""
    return key == KEY.encode()


def saved(folder: Path) -> dict[str, dict[bytes, bytes]]:
    """All cells of a checkpoint, by space."""
    with Checkpoint(folder) as checkpoint:
        return {space: dict(checkpoint.scan(space)) for space in checkpoint.spaces()}


@pytest.mark.parametrize("is_dropped", [False, True], ids=["cell", "trace"])
def test_a_checkpoint_does_not_keep_what_was_erased(tmp_path: Path, is_dropped: bool) -> None:
    """Not as a cell, and not where LMDB left what was deleted; all the rest stays."""
    cells = [(b"k%d" % i, b"c" * 100) for i in range(500)] + [(b"k" * 600, b"long")]
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save(7, {"v": [*cells, (KEY.encode(), b"mine")], "w": cells}, {"m": b"1"})
        if is_dropped:
            checkpoint.save(8, {"v": [(KEY.encode(), None)]})
    assert held(tmp_path) == ["data.mdb"]
    assert erase_cells(tmp_path, is_mine, [KEY.encode()]) == (0 if is_dropped else 1)
    assert held(tmp_path) == []
    assert saved(tmp_path) == {"v": dict(cells), "w": dict(cells)}
    with Checkpoint(tmp_path) as checkpoint:
        assert (checkpoint.offset(), checkpoint.meta("m")) == (8 if is_dropped else 7, b"1")
        checkpoint.save(9, {"new": [(b"a", b"b")]})
    assert erase_cells(tmp_path, is_mine, [KEY.encode()]) == 0
    assert saved(tmp_path)["new"] == {b"a": b"b"}


def test_a_checkpoint_erasure_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the rename it is the old one; the next call is not disturbed by what is left."""
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save(7, {"v": [(KEY.encode(), b"mine"), (b"a", b"")]})

    def dies(*paths: Any) -> None:
        raise Cut

    monkeypatch.setattr("os.replace", dies)
    with pytest.raises(Cut):
        erase_cells(tmp_path, is_mine)
    monkeypatch.undo()
    assert saved(tmp_path) == {"v": {KEY.encode(): b"mine", b"a": b""}}
    assert erase_cells(tmp_path, is_mine) == 1
    assert (saved(tmp_path), held(tmp_path)) == ({"v": {b"a": b""}}, [])


def test_there_may_be_no_checkpoint(tmp_path: Path) -> None:
    """Then there is nothing to erase, and none is made."""
    assert erase_cells(tmp_path / "none", is_mine) == 0
    assert not (tmp_path / "none").exists()
