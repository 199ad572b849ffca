"""Every Gallery keeps the same promises."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from features.errors import BadInput, Conflict, DamagedData, NotFound
from features.testing import ManualClock
from training.gallery import (
    Gallery,
    Lineage,
    MemoryGallery,
    Metric,
    ModelVersion,
    SqliteGallery,
    alias_at,
    aliases_of,
)

FAMILY = "flights.arrival_delay"
ROOT = Path(__file__).resolve().parents[2]


def draft(number: int = 1, family: str = FAMILY, run: str = "") -> ModelVersion:
    return ModelVersion(
        family=family,
        digest=f"{number:064x}",
        service="arrival_delay",
        metrics=(
            Metric("auc", 0.75),
            Metric("auc", None, "test", "origin=JFK"),
            Metric("logloss", 0.5, "train"),
        ),
        primary_metric="auc",
        lineage=Lineage(
            run_id=run,
            snapshots={"lake.landings": 7},
            features={"carrier_delay": "0123456789ab"},
            parameters={"eta": 0.1},
            parents=(1, 2),
        ),
        inputs={"entities": {"carrier": "str"}},
        owner="eta",
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000)


@pytest.fixture(params=["memory", "sqlite"])
def gallery(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[MemoryGallery | SqliteGallery]:
    if request.param == "memory":
        yield MemoryGallery(clock)
        return
    with SqliteGallery(tmp_path / "gallery.db", clock) as opened:
        yield opened


def test_versions_are_numbered_from_one_in_each_family(gallery: Gallery) -> None:
    """Gallery numbers versions densely, each family by itself."""
    numbers = [gallery.create(draft(i)).version for i in (1, 2, 3)]
    assert numbers == [1, 2, 3]
    assert gallery.create(draft(4, "flights.other")).version == 1


def test_a_version_comes_back_as_it_was_created(gallery: Gallery, clock: ManualClock) -> None:
    """Metrics, undefined ones too, lineage, inputs and the time of creation are kept exactly."""
    made = gallery.create(draft())
    assert made == replace(draft(), version=1, created_at=clock.now())
    assert gallery.get(FAMILY, 1) == made
    assert gallery.list() == gallery.list(FAMILY) == (made,)
    assert made.primary == 0.75


def test_the_same_run_creates_once(gallery: Gallery) -> None:
    """A creation that is repeated by its run gives the version it made, never a second one."""
    first = gallery.create(draft(run="r1"))
    assert gallery.create(draft(run="r1")) == first
    with pytest.raises(Conflict, match="already made"):
        gallery.create(draft(2, run="r1"))
    assert gallery.create(draft(run="r2")).version == 2


@pytest.mark.parametrize(
    "wrong",
    [
        replace(draft(), version=3),
        replace(draft(), digest="abc"),
        replace(draft(), family="Flights Delay"),
    ],
)
def test_what_is_no_draft_is_refused(gallery: Gallery, wrong: ModelVersion) -> None:
    """A numbered version, a bad digest and a bad family name are refused, and nothing is kept."""
    with pytest.raises(BadInput):
        gallery.create(wrong)
    assert gallery.list() == ()


def test_unknown_things_are_not_found_with_a_hint(gallery: Gallery) -> None:
    """An unknown family, number or alias says what there is."""
    gallery.create(draft())
    with pytest.raises(NotFound, match=r"Did you mean flights.arrival_delay"):
        gallery.get("flights.arival_delay", 1)
    for reference in (2, 0, "champion"):
        with pytest.raises(NotFound, match="1 version"):
            gallery.get(FAMILY, reference)


def test_an_alias_moves_only_from_where_it_is_believed_to_be(gallery: Gallery) -> None:
    """A compare-and-set that expects another version changes nothing and says what it found."""
    for i in (1, 2):
        gallery.create(draft(i))
    gallery.move_alias(FAMILY, "champion", 1, None)
    assert gallery.get(FAMILY, "champion").version == 1
    with pytest.raises(Conflict, match="is version 1, not nothing"):
        gallery.move_alias(FAMILY, "champion", 2, None)
    with pytest.raises(NotFound):
        gallery.move_alias(FAMILY, "champion", 9, 1)
    with pytest.raises(BadInput):
        gallery.move_alias(FAMILY, "9", 1, None)
    assert gallery.get(FAMILY, "champion").version == 1


def test_the_champion_at_any_time_is_known(gallery: Gallery, clock: ManualClock) -> None:
    """History answers what an alias named at a time, removal included."""
    for i in (1, 2):
        gallery.create(draft(i))
    for to, expect in ((1, None), (2, 1), (None, 2)):
        clock.advance(10)
        gallery.move_alias(FAMILY, "champion", to, expect, actor="ann", reason="why not")
    moves = gallery.history(FAMILY)
    named = [alias_at(moves, "champion", at) for at in (1_009, 1_010, 1_019, 1_020, 1_030)]
    assert named == [None, 1, 1, 2, None]
    assert aliases_of(moves) == {}
    assert moves[1].previous == 1
    assert moves[1].actor == "ann"
    with pytest.raises(NotFound):
        gallery.get(FAMILY, "champion")


def test_everything_that_changed_gallery_is_in_the_audit(
    gallery: MemoryGallery | SqliteGallery,
) -> None:
    """Creations and moves are recorded in order, and the chain verifies."""
    gallery.create(draft())
    gallery.move_alias(FAMILY, "champion", 1, None, actor="ann")
    assert [e.action for e in gallery.entries()] == ["create", "move_alias"]
    assert gallery.verify() == 2


def test_concurrent_creators_get_dense_numbers(gallery: MemoryGallery | SqliteGallery) -> None:
    """Many creators at once get every number exactly once, without an error."""
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda i: gallery.create(draft(i)).version, range(64)))
    assert sorted(made) == list(range(1, 65))
    assert gallery.verify() == 64


def test_of_concurrent_moves_one_wins(gallery: Gallery) -> None:
    """Of many compare-and-sets from one state exactly one succeeds; the rest see Conflict."""
    for i in range(1, 9):
        gallery.create(draft(i))

    def move(to: int) -> bool:
        try:
            gallery.move_alias(FAMILY, "champion", to, None)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(move, range(1, 9)))
    assert sum(won) == 1
    assert gallery.get(FAMILY, "champion").version == won.index(True) + 1


def test_sqlite_keeps_everything_when_it_is_opened_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    """What was answered is on disk: the next writer and a reader beside it see it."""
    path = tmp_path / "gallery.db"
    with SqliteGallery(path, clock) as gallery:
        made = gallery.create(draft())
        gallery.move_alias(FAMILY, "champion", 1, None)
        with SqliteGallery(path, clock, read_only=True) as reader:
            assert reader.get(FAMILY, "champion") == made
    with SqliteGallery(path, clock) as gallery:
        assert gallery.list() == (made,)
        assert gallery.create(draft(2)).version == 2


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path, clock: ManualClock) -> None:
    """A second writer is refused with the name of the first, and may write when that is done."""
    path = tmp_path / "gallery.db"
    with (
        SqliteGallery(path, clock, who="tondo up"),
        pytest.raises(Conflict, match=rf"tondo up \(process {os.getpid()}\)"),
    ):
        SqliteGallery(path, clock)
    SqliteGallery(path, clock).close()


def test_a_reader_without_a_gallery_is_told_so(tmp_path: Path, clock: ManualClock) -> None:
    """Reading where nothing was ever registered says so and creates nothing."""
    with pytest.raises(NotFound):
        SqliteGallery(tmp_path / "none" / "gallery.db", clock, read_only=True)
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_no_gallery_is_damaged_data(tmp_path: Path, clock: ManualClock) -> None:
    """A damaged file is an error with a hint, and holds no lock afterwards."""
    path = tmp_path / "gallery.db"
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(DamagedData, match="backup"):
        SqliteGallery(path, clock)
    path.unlink()
    SqliteGallery(path, clock).close()


@pytest.mark.parametrize("table", ["versions", "metrics", "lineage", "alias_moves", "audit"])
def test_storage_refuses_to_change_the_past(tmp_path: Path, clock: ManualClock, table: str) -> None:
    """No row of what is immutable can be updated or deleted, not even by hand."""
    path = tmp_path / "gallery.db"
    with SqliteGallery(path, clock) as gallery:
        gallery.create(draft())
        gallery.move_alias(FAMILY, "champion", 1, None)
    with sqlite3.connect(path) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(f"DELETE FROM {table}")


TAMPERING: list[Callable[[sqlite3.Connection], object]] = [
    lambda db: db.execute("UPDATE audit SET actor = 'bob' WHERE position = 1"),
    lambda db: db.execute("DELETE FROM audit WHERE position = 1"),
    lambda db: db.execute("UPDATE versions SET content = replace(content, '0.75', '0.99')"),
    lambda db: db.execute("DELETE FROM versions WHERE version = 2"),
    lambda db: db.execute("UPDATE aliases SET version = 2"),
]


@pytest.mark.parametrize("tamper", TAMPERING)
def test_verify_notices_tampering(
    tmp_path: Path, clock: ManualClock, tamper: Callable[[sqlite3.Connection], object]
) -> None:
    """A changed or lost audit entry, version or alias is noticed."""
    path = tmp_path / "gallery.db"
    with SqliteGallery(path, clock) as gallery:
        for i in (1, 2):
            gallery.create(draft(i))
        gallery.move_alias(FAMILY, "champion", 1, None)
        assert gallery.verify() == 3
    with sqlite3.connect(path) as db:
        for trigger in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {trigger[0]}")
        tamper(db)
    with SqliteGallery(path, clock) as gallery, pytest.raises(DamagedData):
        gallery.verify()


KILLED_AT = ["INSERT INTO versions", "INSERT INTO metrics", "INSERT INTO audit", "COMMIT"]
CREATOR = """
import os, signal, sys
from pathlib import Path
from features.clock import SystemClock
from training.gallery import Metric, ModelVersion, SqliteGallery

path, statement = Path(sys.argv[1]), sys.argv[2]
gallery = SqliteGallery(path, SystemClock())
draft = ModelVersion("flights.arrival_delay", "a" * 64, "s", metrics=(Metric("auc", 0.7),))
print(gallery.create(draft).version, flush=True)

def kill_at(sql):
    if sql.startswith(statement):
        os.kill(os.getpid(), signal.SIGKILL)

gallery._db.set_trace_callback(kill_at)
print(gallery.create(draft).version, flush=True)
"""


@pytest.mark.parametrize("statement", KILLED_AT)
def test_a_creator_that_is_killed_leaves_all_or_nothing(
    tmp_path: Path, clock: ManualClock, statement: str
) -> None:
    """After kill -9 in the middle of a creation what was answered is there, and nothing else."""
    path = tmp_path / "gallery.db"
    command = [sys.executable, "-c", CREATOR, str(path), statement]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert child.stdout == b"1\n"
    with SqliteGallery(path, clock) as gallery:
        assert [v.version for v in gallery.list()] == [1]
        assert gallery.verify() == 1
        assert gallery.create(draft()).version == 2
