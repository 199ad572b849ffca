"""``tondo features erase``: a random key is nowhere afterwards, and nobody else notices."""

from __future__ import annotations

import gzip
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.avro.file import AvroFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import MANIFEST_ENTRY_SCHEMAS

from app.compose import Platform, open_platform
from app.control.catalog import Put
from app.control.resources import of_definition
from app.errors import Conflict
from app.online_jobs import get_online
from features import Entity, FeatureService, FeatureView, Source, col, count, last
from features import sum as total
from features.keys import key_bytes
from features.library import Library
from features.offline.join import join_local
from features.offline.training_set import build_training_set, load_training_set, local_join, rebuild
from features.online.materialize import materialize
from features.plan import resolve
from serving.prediction_log import LOG_PREFIX, fixed_columns
from serving.spool import SpoolSink

ROOT = Path(__file__).resolve().parents[2]
KEY = secrets.token_hex(16)
NOON = 1_383_307_200_000_000
HOUR = 3_600_000_000
ID = "id" + secrets.token_hex(16)
TAPS = Source("taps", table="lake.taps", stream="taps", event_time="at", available_at="known",
              event_id="id", partitions=2, bucket_by="card", lateness=365 * 24 * HOUR * 100,
              schema={"id": str, "card": str, "shop": int, "x": float, "at": "time",
                      "known": "time"})  # fmt: skip
PAIR = Entity("pair", key=("card", "shop"), type=(str, int))
CARD = Entity("card", key="card")
TAPPING = FeatureView("tapping", entity=CARD, source=TAPS, features={
    "n": count(), "sum": total(col("x")), "last": last(col("x")),
})  # fmt: skip
BY_PAIR = FeatureView("by_pair", entity=PAIR, source=TAPS, features={"n": count()})
SERVICE = FeatureService("svc", [TAPPING, TAPPING.as_("payee", key={"card": "payee"}), BY_PAIR])
DEFINITIONS = [CARD, PAIR, TAPS, TAPPING, BY_PAIR, SERVICE]
LIBRARY = Library.from_definitions(DEFINITIONS)
Tondo = Callable[..., Any]


def taps(prefix: str, n: int, card: str | None = None, first_id: str = "") -> list[dict[str, Any]]:
    """Rows of a few cards, every third of one card if that is given."""
    return [
        {
            "id": first_id if first_id and i == 0 else f"{prefix}{i}",
            "card": card if card and i % 3 == 0 else f"c{i % 4}",
            "shop": i % 2,
            "x": i / 7,
            "at": NOON - HOUR + i,
            "known": NOON - HOUR + i,
        }
        for i in range(n)
    ]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a file that can be ingested."""
    lines = [",".join(f"2013-11-01T11:00:{i:02d}Z" if n in ("at", "known") and v else str(v)
                      for n, v in row.items()) for i, row in enumerate(rows)]  # fmt: skip
    path.write_text("\n".join([",".join(rows[0]), *lines]) + "\n")
    return path


def prediction(entities: dict[str, Any]) -> pa.Table:
    """One logged prediction."""
    row = dict.fromkeys(fixed_columns()) | {
        "request_id": "r", "row": 0, "service": "svc", "entities": json.dumps(entities),
        "request": "{}", "prediction": 0.5, "states": ["value"], "substitutes": ["none"],
    }  # fmt: skip
    text = {n: pa.array([v]) for n, v in row.items() if v is not None}
    return pa.table(text)


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
    made = empty
    files = [
        write_csv(tmp_path / "a.csv", taps("a", 30, KEY)),
        write_csv(tmp_path / "b.csv", [*taps("b", 12, KEY, ID), taps("m", 1, KEY)[0] | {"at": ""}]),
        write_csv(tmp_path / "c.csv", taps("c", 12)),
    ]
    assert tondo("features", "ingest", "taps", files[0]).code == 0
    store, lake = made.online(), made.lake()
    for view in (TAPPING, BY_PAIR):
        done = materialize(view, lake, store, NOON, now=made.clock.now())
        assert done.version.partitions in (0, 2)
    for path in files[1:]:
        assert tondo("features", "ingest", "taps", path, "--stream").code == 0
    sink = SpoolSink(made.home.spool)
    sink.write(f"{LOG_PREFIX}m", prediction({"card": KEY, "payee": "c1", "shop": 1}))
    sink.write(f"{LOG_PREFIX}m", prediction({"card": "c1", "payee": "c2", "shop": 1}))
    sink.write(f"{LOG_PREFIX}m", prediction({"card": "c1", "payee": KEY, "shop": 1}))
    spine = pa.table({"card": ["c0", KEY, "c1"], "payee": ["c1", "c1", "c2"], "shop": [0, 1, 1],
                      "event_time": pa.array([NOON] * 3, pa.timestamp("us", "UTC"))})  # fmt: skip
    plan = resolve(LIBRARY, "svc")
    build_training_set(plan, lake, spine, made.home.training_sets)
    build_training_set(plan, lake, spine.slice(2), made.home.training_sets)
    run = made.home.training / "run-1" / "data"
    run.mkdir(parents=True)
    pq.write_table(spine, run / "train.parquet", compression="zstd")
    return made


def held(root: Path, text: str) -> list[str]:
    """The files below a folder that hold a text, as bytes or once they are decoded."""
    return [str(p.relative_to(root)) for p in sorted(root.rglob("*")) if p.is_file()
            and (text in str(p) or any(text.encode() in part for part in parts(p)))]  # fmt: skip


def parts(path: Path) -> Iterator[bytes]:
    """A file's bytes, and its rows where they are packed."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield repr(pq.read_table(path).to_pylist()).encode()
    if path.suffix == ".avro" and not path.name.startswith("snap-"):
        with AvroFile(PyArrowFileIO().new_input(str(path)), MANIFEST_ENTRY_SCHEMAS[2]) as entries:
            for entry in entries:
                yield repr(entry).encode()
                yield b"".join(v for b in entry[4]._data if isinstance(b, dict)
                               for v in b.values() if isinstance(v, bytes))  # fmt: skip


def values_of(platform: Platform, *cards: str) -> list[Any]:
    """What is online for some cards."""
    plan = resolve(LIBRARY, "svc")
    rows = [{"card": c, "payee": p, "shop": s} for c in cards for p in ("c1", "c2") for s in (0, 1)]
    return [get_online(platform, plan, row, None, False)["values"] for row in rows]


def joined(platform: Platform, out: Path) -> bytes:
    """A join for all others, as the bytes of its file."""
    cards = [f"c{i % 4}" for i in range(20)]
    spine = pa.table({"card": cards, "payee": cards[::-1], "shop": [i % 2 for i in range(20)],
                      "event_time": pa.array([NOON + i for i in range(20)],
                                             pa.timestamp("us", "UTC"))})  # fmt: skip
    pq.write_table(spine, out.with_suffix(".spine.parquet"))
    join_local(resolve(LIBRARY, "svc"), platform.lake(), out.with_suffix(".spine.parquet"), out)
    return out.read_bytes()


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
    # The pair's events were the card's: a set that reads both may no longer come out the same.
    assert whole.rows == 1


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


def test_a_composite_key_is_matched_in_all_its_parts(platform: Platform, tondo: Tondo) -> None:
    """The same card in another shop stays; what is left of a card's text is told, and fails."""
    lake = platform.lake()
    rows = lake.scan("lake.taps").to_pylist()
    key = ("--key", "shop=1", "--key", f"card={KEY}")
    ran = tondo("features", "erase", "pair", "--yes", "-o", "json", *key)
    assert ran.code == 1
    assert ran.data["left"]
    assert not ran.data["complete"]
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
    pq.write_table(pa.table({"m": pa.array([[("a", KEY)]], pa.map_(pa.string(), pa.string()))}),
                   stray / "b.parquet", compression="zstd", write_statistics=False)  # fmt: skip
    ran = tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes", "-o", "json")
    assert (ran.code, ran.data["complete"], KEY in ran.out) == (1, False, False)
    assert sorted(left.partition(":")[0] for left in ran.data["left"]) == [
        *("reports/<key>.txt", "reports/a.gz", "reports/b.parquet"),
    ]
    assert held(empty.home.erasures, KEY) == []
    shutil.rmtree(stray)
    again = tondo("features", "erase", "card", "--key", f"card={KEY}", "--yes", "-o", "json")
    assert (again.code, again.data["erasure"]) == (0, ran.data["erasure"])
