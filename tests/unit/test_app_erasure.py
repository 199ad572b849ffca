"""``tondo features erase``: a random key is nowhere afterwards, and nobody else notices."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.compose import Platform, open_platform
from app.control.catalog import Put
from app.control.resources import of_definition
from app.errors import Conflict
from features.keys import key_bytes
from features.library import Library
from features.offline.training_set import build_training_set, load_training_set, local_join, rebuild
from features.plan import resolve
from serving.prediction_log import LOG_PREFIX
from tests.erasure_world import (
    BY_SHOP,
    DEFINITIONS,
    ID,
    KEY,
    NOON,
    fill,
    held,
    joined,
    taps,
    values_of,
    write_csv,
)

ROOT = Path(__file__).resolve().parents[2]
Tondo = Callable[..., Any]


@pytest.fixture
def empty(tondo_home: Path) -> Platform:
    """An installation with definitions and nothing else."""
    made = open_platform(None)
    with made.catalog_writer("a test") as catalog:
        catalog.write([Put(of_definition(one), 0) for one in DEFINITIONS])
    return made


@pytest.fixture
def platform(empty: Platform, tondo: Tondo, tmp_path: Path) -> Platform:
    """An installation with the key wherever a key can be, and others beside it."""
    fill(empty, tondo, tmp_path)
    return empty


def test_a_key_is_nowhere_afterwards(platform: Platform, tondo: Tondo, tmp_path: Path) -> None:
    """Not in any file of the home, raw or decoded; the proof says how, and has only a hash."""
    home = platform.home.root
    places = {Path(name).parts[0] for name in held(home, KEY)}
    assert places == {"lake", "online", "log", "stream", "run", "training-sets", "runs"}
    before = values_of(platform, "c0", "c1", "c3"), joined(platform, tmp_path / "before.parquet")
    ran = tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes", "-o", "json")
    assert ran.code == 0, ran.err + ran.out
    proof = ran.data
    assert (proof["complete"], proof["left"], proof["nothingToDo"]) == (True, [], False)
    assert held(home, KEY) == held(home, ID) == []
    assert KEY not in ran.out
    assert proof["lookedAgain"]["rows"] == 0
    assert {place["kind"] for place in proof["places"] if place["rows"]} == {
        *("lake table", "online", "checkpoint", "event log", "training set", "training runs"),
    }
    (kept,) = platform.home.erasures.glob("*.json")
    assert json.loads(kept.read_text())["key"].startswith("scrypt:")
    after = values_of(platform, "c0", "c1", "c3"), joined(platform, tmp_path / "after.parquet")
    assert after == before
    gone = values_of(platform, KEY)[0]
    assert [gone[f"{role}__n"] for role in ("tapping", "by_pair")] == [0, 0]


def test_the_second_time_there_is_nothing_to_do(platform: Platform, tondo: Tondo) -> None:
    """It ends with 0, names the first proof, and changes no file but caches of nothing."""
    command = ("features", "erase", "card", "--key", f"card={KEY}", "--yes")
    first = tondo(*command, "-o", "json").data
    again = tondo(*command, "-o", "json")
    assert (again.code, again.data["nothingToDo"]) == (0, True)
    assert again.data["erasure"] == first["erasure"]
    assert "nothing to do" in tondo(*command).out
    assert len(list(platform.home.erasures.glob("*.json"))) == 1


def test_rows_of_others_stay(platform: Platform, tondo: Tondo) -> None:
    """In tables, dead letters, prediction log and training sets exactly the key's rows went."""
    lake = platform.lake()
    before = {name: lake.scan(name).to_pylist() for name in lake.tables()}
    assert KEY in repr(before["lake.taps_dead_letters"])
    assert tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes").code == 0
    for name, rows in before.items():
        kept = [row for row in rows if KEY not in repr(row)]
        key = repr
        assert sorted(platform.lake().scan(name).to_pylist(), key=key) == sorted(kept, key=key)
    (log,) = (n for n in platform.lake().tables() if n.startswith(LOG_PREFIX))
    assert [json.loads(r)["card"] for r in platform.lake().scan(log)["entities"].to_pylist()] == [
        "c1"
    ]


def test_training_sets_say_that_they_are_erased(
    platform: Platform, tondo: Tondo, tmp_path: Path
) -> None:
    """Those that held the key; the others are made again to the same bytes."""
    assert tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes").code == 0
    join = local_join(platform.lake())
    sets = [load_training_set(path) for path in platform.home.training_sets.iterdir()]
    erased, whole = sorted(sets, key=lambda one: not one.erased)
    assert (erased.erased, erased.rows, erased.table()["card"].to_pylist()) == (
        *(True, 2),
        ["c0", "c1"],
    )
    with pytest.raises(Conflict, match="is erased"):
        rebuild(erased, tmp_path / "erased.parquet", join)
    assert rebuild(whole, tmp_path / "whole.parquet", join).rows == 1


def test_a_set_of_others_over_the_same_events_is_erased_too(
    platform: Platform, tondo: Tondo, tmp_path: Path
) -> None:
    """A shop's features counted the card's events: it holds no key, and cannot be made again."""
    plan = resolve(Library.from_definitions([BY_SHOP]), "by_shop:*")
    spine = pa.table({"shop": [0], "event_time": pa.array([NOON], pa.timestamp("us", "UTC"))})
    made = build_training_set(plan, platform.lake(), spine, platform.home.training_sets)
    before = made.path.read_bytes()
    assert tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes").code == 0
    after = load_training_set(made.folder)
    assert (after.erased, after.path.read_bytes()) == (True, before)
    with pytest.raises(Conflict, match="is erased"):
        rebuild(after, tmp_path / "out.parquet", local_join(platform.lake()))


def test_the_stream_goes_on(platform: Platform, tondo: Tondo, tmp_path: Path) -> None:
    """What was erased stays gone, what comes next counts from there, and a resend is new."""
    before = values_of(platform, "c2")
    assert tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes").code == 0
    path = write_csv(tmp_path / "d.csv", taps("d", 1, KEY))
    assert tondo("features", "ingest", "taps", path, "--stream").code == 0
    assert values_of(platform, "c2") == before
    log = platform.event_log("taps", 2)
    events = [event for p in range(2) for event in log.read(p, 0, 999)]
    assert sum(event.erased for event in events) == 5
    assert sum(KEY in repr(event.row) for event in events) == 1
    rows = platform.lake().scan("lake.taps")
    assert sum(card == KEY for card in rows["card"].to_pylist()) == 1


PLACES = ("spool", "training_sets", "runs", "online", "checkpoints", "tables", "logs")


def dying(clean: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A place that is cleaned, and then the process ends."""

    def dies(*arguments: Any) -> Iterator[Any]:
        yield from clean(*arguments)
        raise OSError("no more")

    return dies


def test_a_failure_anywhere_is_finished_by_the_next_try(
    platform: Platform, tondo: Tondo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each kind of place the process may end; the proof of the end is the same one."""
    from app.erasure import places

    command = ("features", "erase", "card", "--key", f"card={KEY}", "--yes", "-o", "json")
    for place in PLACES:
        with monkeypatch.context() as patch:
            patch.setattr(places, place, dying(getattr(places, place)))
            assert tondo(*command).code == 1, place
        (begun,) = platform.home.erasures.glob("*.json")
        assert json.loads(begun.read_text())["state"] == "begun"
    done = tondo(*command)
    assert (done.code, done.data["complete"]) == (0, True)
    assert done.data["erasure"] == begun.stem
    assert held(platform.home.root, KEY) == held(platform.home.root, ID) == []


DRIVER = """
import os, signal, sys
from app.cli import run
left = int(sys.argv[1])
def counted(call):
    def counting(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return counting
for name in ("fsync", "replace", "rename", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
code = run(sys.argv[2:])
print(code, left)
"""


def test_it_may_be_killed_again_and_again(
    platform: Platform, tmp_path: Path, tondo_home: Path
) -> None:
    """By kill -9 at any call that changes the disk; meanwhile others read on, then it is done."""
    before = values_of(platform, "c0", "c1"), joined(platform, tmp_path / "before.parquet")
    command = ["features", "erase", "card", "--key", f"card={KEY}", "--yes"]
    killed = 0
    for calls in (4, 12, 25, 45, 10**9):
        ran = subprocess.run(
            [sys.executable, "-c", DRIVER, str(calls), *command],
            capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        killed += ran.returncode == -signal.SIGKILL
        now = values_of(platform, "c0", "c1"), joined(platform, tmp_path / "now.parquet")
        assert now == before, ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("0 "), ran.stdout + ran.stderr
    assert killed >= 3
    assert held(tondo_home, KEY) == held(tondo_home, ID) == []


def holding(root: Path, raw: str) -> list[Path]:
    """The files below a folder that hold some bytes, given as Latin-1."""
    files = (path for path in root.rglob("*") if path.is_file())
    return [path for path in files if raw.encode("latin-1") in path.read_bytes()]


def test_a_composite_key_is_matched_in_all_its_parts(platform: Platform, tondo: Tondo) -> None:
    """The same card in another shop stays, and no byte of the whole key is left."""
    lake, home = platform.lake(), platform.home.root
    rows = lake.scan("lake.taps").to_pylist()
    whole = (key_bytes([KEY, 1]) or b"").decode("latin-1")
    assert holding(home / "online", whole)
    key = ("--key", "shop=1", "--key", f"card={KEY}")
    ran = tondo("features", "erase", "pair", "--yes", "-o", "json", *key)
    assert (ran.code, ran.data["left"]) == (0, []), ran.err
    assert not holding(home, whole)
    kept = [row for row in rows if (row["card"], row["shop"]) != (KEY, 1)]
    assert platform.lake().scan("lake.taps").num_rows == len(kept) < len(rows)
    keys = [(v, key_bytes([KEY, s]) or b"") for v in platform.online().views()
            if v.startswith("by_pair@") for s in (0, 1)]  # fmt: skip
    other, gone = platform.online().read(keys, platform.clock.now())
    assert (gone.tail, set(gone.heads) <= {None}) == (None, True)
    assert other.tail is not None


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("card", 2, "--key"),
        ("card --key card", 2, "not a pair"),
        ("card --key kard=a", 2, "no key 'kard'"),
        ("pair --key card=a", 2, "lacks shop"),
        ("pair --key card=a --key shop=b", 2, "not of type int"),
        ("cart --key card=a", 1, "Did you mean card"),
    ],
)
def test_what_cannot_be_erased(
    empty: Platform, tondo: Tondo, arguments: str, code: int, told: str
) -> None:
    """Unknown entities and keys, missing parts, other types: told with a hint, nothing changed."""
    ran = tondo("features", "erase", *arguments.split(), "--yes")
    assert (ran.code, told in ran.err) == (code, True), ran.err
    assert not empty.home.erasures.exists()


def test_while_the_platform_is_up_nothing_is_erased(
    empty: Platform, tondo: Tondo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes hold entities in memory: it is refused before anything is touched."""
    monkeypatch.setattr(Platform, "cluster", lambda self: object())
    ran = tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes")
    assert (ran.code, "tondo down" in ran.err) == (1, True)
    assert not empty.home.erasures.exists()


def test_where_there_is_nothing_that_is_proven_too(empty: Platform, tondo: Tondo) -> None:
    """An unknown key ends with 0 and a proof that everything was looked at."""
    ran = tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes")
    assert (ran.code, "nothing to do" in ran.out) == (0, True), ran.out
    (kept,) = empty.home.erasures.glob("*.json")
    proof = json.loads(kept.read_text())
    assert (proof["complete"], proof["rows"], proof["searched"]["done"]) == (True, 0, True)


def test_nobody_is_erased_without_a_yes(
    empty: Platform, tondo: Tondo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks, and anything but a yes changes nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ran = tondo("features", "erase", "card", "--key", f"card={KEY}")
    assert (ran.code, "Erase card" in ran.err) == (1, True)
    assert not empty.home.erasures.exists()


def test_what_cannot_be_cleaned_is_told(empty: Platform, tondo: Tondo) -> None:
    """A stray file with the key, packed or not, or in its name: left, told without it, exit 1."""
    stray = empty.home.root / "reports"
    stray.mkdir()
    (stray / f"{KEY}.txt").write_text("x")
    with gzip.open(stray / "a.gz", "wt") as file:
        file.write(KEY)
    with closing(sqlite3.connect(stray / "c.db")) as database, database:
        database.execute("CREATE TABLE t (x TEXT)")
        database.execute("INSERT INTO t VALUES (?)", ("-" * 4_000 + KEY * 2 + "-" * 9_000,))
    pq.write_table(pa.table({"m": pa.array([[("a", KEY)]], pa.map_(pa.string(), pa.string()))}),
                   stray / "b.parquet", compression="zstd", write_statistics=False)  # fmt: skip
    ran = tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes", "-o", "json")
    assert (ran.code, ran.data["complete"], KEY in ran.out) == (1, False, False)
    assert sorted(left.partition(":")[0] for left in ran.data["left"]) == [
        *("reports/<key>.txt", "reports/a.gz", "reports/b.parquet", "reports/c.db"),
    ]
    assert held(empty.home.erasures, KEY) == []
    shutil.rmtree(stray)
    again = tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes", "-o", "json")
    assert (again.code, again.data["erasure"]) == (0, ran.data["erasure"])
