"""``tondo features join`` as people run it: files in, a file out, without ``tondo up``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from app.cli import run
from app.project import load_library
from features.dtypes import to_arrow
from features.library import Library
from features.oracle import joined
from features.plan import resolve

ROOT = Path(__file__).resolve().parents[2]
MICROS = pa.timestamp("us", tz="UTC")
Ran = subprocess.CompletedProcess[str]
DEFINITIONS = '''"""Definitions of a shop."""

from features import (
    Entity, FeatureService, FeatureView, RequestView, Source, col, count, distinct, first, hours,
    last, max, mean, minutes, query_time, ref, stddev, sum,
)

pair = Entity("pair", key=("user", "shop"), type=(str, int))
visits = Source(
    "visits", table="lake.visits", event_time="visited_at", available_at="reported_at",
    event_id="visit", sequence="step", lateness=hours(6), bucket_by="user",
    schema={"user": str, "shop": int, "visit": str, "step": int, "spent": float,
            "visited_at": "time", "reported_at": "time"},
)
sales = Source(
    "sales", table="lake.sales", event_time="starts_at", available_at="announced_at",
    schema={"shop": int, "discount": float, "starts_at": "time", "announced_at": "time"},
)
never = Source("never", table="lake.never", event_time="at", schema={"user": str, "at": "time"})
habits = FeatureView("habits", entity=pair, source=visits, ttl=hours(60), features={
    "visits": count(), "visits_1h": count().over(hours(1)), "spent_2h": sum(col("spent")).over(hours(2)),
    "mean_2h": mean(col("spent")).over(hours(2)), "dev": stddev(col("spent")).over(hours(24)),
    "last_spent": last(col("spent")), "first_spent": first(col("spent")).over(hours(24)),
    "most": max(col("spent")).over(minutes(30)), "kinds": distinct(col("spent")).over(hours(24)),
    "trend": ref("mean_2h") - ref("spent_2h"), "idle": query_time() - ref("last_at"),
    "last_at": last(col("visited_at")),
})
recent = FeatureView("recent", entity=pair, source=visits, features={
    "last_3": last(col("spent"), k=3), "by_step": count().over(hours(24)).by("step"),
})
offers = FeatureView("offers", entity=Entity("shop", key="shop", type=int), source=sales, features={
    "known": count(), "running_24h": count().over(hours(24)), "discount": last(col("discount")),
})
basket = RequestView("basket", request={"amount": float}, features={
    "share": col("amount") / ref("habits:spent_2h"),
})
unseen = FeatureView("unseen", entity=Entity("user", key="user"), source=never,
                     features={"times": count()})
advice = FeatureService("advice", [
    habits, habits.as_("friend", key={"user": "friend"}), offers, basket,
])
'''  # noqa: E501


@dataclass(frozen=True)
class Shop:
    """A project and a home with its events in the lake; the events as the oracle reads them."""

    project: Path
    home: Path
    sources: dict[str, list[dict[str, Any]]]
    library: Library

    def run(self, arguments: Sequence[str], cwd: Path) -> Ran:
        """Runs ``tondo`` as a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=cwd,
            env={**os.environ, "TONDO_HOME": str(self.home), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def join(self, spine: Path, out: Path, refs: str, *more: str) -> Ran:
        """``tondo features join`` as a process of its own."""
        return self.run([*self.arguments(spine, out, refs), *more], spine.parent)

    def arguments(self, spine: Path, out: Path, refs: str) -> list[str]:
        """The command line of a join."""
        given = ("--spine", spine, "--features", refs, "--out", out, "--time", "asked_at")
        return ["features", "join", *map(str, given), "--project", str(self.project)]


# New York's clocks go back at 2025-11-02T06:00Z: 01:30 comes twice, an hour apart.
CHANGE = datetime(2025, 11, 2, 6, tzinfo=UTC)


def micros(moment: datetime | None) -> int | None:
    """UTC µs."""
    return (
        None
        if moment is None
        else (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    )


def visits() -> list[dict[str, Any]]:
    """Visits with ties, nulls, repeated ids, late and unreported ones, every 15 minutes."""
    rows: list[dict[str, Any]] = []
    for i in range(120):
        visited = CHANGE + timedelta(minutes=15 * (i - 60))
        rows.append(
            {
                "user": "ann" if i % 3 else "bob",
                "shop": i % 2,
                "visit": f"v{i}",
                "step": i % 4 if i % 5 else None,
                "spent": None if i % 7 == 0 else i * 0.1,
                "visited_at": visited,
                "reported_at": visited + timedelta(minutes=(i * 37) % 90),
            }
        )
    tie = {**rows[80], "visited_at": CHANGE, "reported_at": CHANGE, "user": "ann", "shop": 0}
    rows += [{**tie, "visit": f"t{n}", "step": n % 2, "spent": float(-n)} for n in range(4)]
    rows += [{**tie, "visit": None, "spent": 0.3}] * 2  # two events: no id, no duplicate
    rows.append({**rows[70], "user": "bob", "shop": 1, "reported_at": rows[70]["visited_at"]})
    rows.append({**rows[71], "reported_at": rows[71]["reported_at"] + timedelta(minutes=1)})
    rows.append({**rows[72], "visit": "late", "reported_at": CHANGE + timedelta(hours=9)})
    rows.append({**rows[73], "visit": "nobody", "user": None})
    rows.append({**rows[74], "visit": "never", "visited_at": None})
    return rows


def sales() -> list[dict[str, Any]]:
    """Sales announced a day before they start, and one that was never timed."""
    starts = [CHANGE + timedelta(hours=6 * n) for n in range(-6, 4)]
    return [
        {"shop": n % 2, "discount": n / 10, "starts_at": s, "announced_at": s - timedelta(days=1)}
        for n, s in enumerate(starts)
    ]


ASKED = [  # in both hours called 01:30, at the change, a microsecond later, long before and after
    "2025-11-02T01:30:00-04:00", "2025-11-02T01:30:00-05:00", "2025-11-02T06:00:00Z",
    "2025-11-02T06:00:00.000001Z", "2025-11-02T00:59:59.999999-05:00", "2025-11-02T03:00:00-05:00",
    "2025-11-01T12:00:00+02:00", "2025-10-01T00:00:00Z", "2025-11-04T23:00:00Z",
    "2025-12-24T00:00:00Z", None, "2025-11-02T05:45:00Z",
]  # fmt: skip


def spine_rows() -> list[dict[str, Any]]:
    """Every key at every time, out of order, some rows twice, some keys null or unknown."""
    keys: list[tuple[str | None, int | None]] = [
        ("ann", 0), ("bob", 1), ("ann", 1), ("eve", 0), (None, 0), ("bob", None), ("ann", 7),
    ]  # fmt: skip
    rows = [
        {"row": len(ASKED) * k + t, "asked_at": asked, "shop": shop, "user": user,
         "friend": "bob", "amount": None if t == 3 else 2.5 * t, "note": f"n,{t}"}
        for k, (user, shop) in enumerate(keys)
        for t, asked in enumerate(ASKED)
    ]  # fmt: skip
    return rows[::-1] + rows[:5]


def spine_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The spine with times as UTC µs."""
    moments = [r["asked_at"] and datetime.fromisoformat(r["asked_at"]) for r in rows]
    table = pa.Table.from_pylist([{**row, "asked_at": None} for row in rows])
    place = table.column_names.index("asked_at")
    return table.set_column(place, "asked_at", pa.array(moments, MICROS))


def write_spine(folder: Path, suffix: str) -> Path:
    """The spine as a file; as text its times keep their offsets."""
    path, rows = folder / f"spine{suffix}", spine_rows()
    if suffix == ".parquet":
        pq.write_table(spine_table(rows), path, row_group_size=10)
    elif suffix == ".csv":
        csv.write_csv(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop, its events ingested from Parquet, CSV and NDJSON by the command line."""
    folder = tmp_path_factory.mktemp("shop")
    project = folder / "project"
    project.mkdir()
    (project / "definitions.py").write_text(DEFINITIONS)
    library = load_library(project)
    sources = {"visits": visits(), "sales": sales()}
    typed = {name: in_micros(library, name, rows) for name, rows in sources.items()}
    made = Shop(project, folder / "home", typed, library)
    third = len(sources["visits"]) // 3
    pieces = [sources["visits"][:third], sources["visits"][third : 2 * third]]
    schema = pa.schema([(n, to_arrow(t)) for n, t in library.source("visits").columns.items()])
    pq.write_table(pa.Table.from_pylist(pieces[0], schema), folder / "a.parquet")
    csv.write_csv(pa.Table.from_pylist(pieces[1], schema), folder / "b.csv")
    lines = [json.dumps(row, default=str) for row in sources["visits"][2 * third :]]
    (folder / "c.ndjson").write_text("\n".join(lines))
    pq.write_table(pa.Table.from_pylist(sources["sales"]), folder / "sales.parquet")
    files = [folder / name for name in ("a.parquet", "b.csv", "c.ndjson")]
    for name, paths in {"visits": files, "sales": [folder / "sales.parquet"]}.items():
        ingest = ["features", "ingest", name, *map(str, paths), "--project", str(project)]
        done = made.run(ingest, folder)
        assert done.returncode == 0, done.stderr
    return made


def in_micros(library: Library, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events as the oracle reads them; those without a time never reach the table."""
    times = [n for n, dtype in library.source(name).columns.items() if dtype == "time"]
    whole = [row for row in rows if all(row[time] is not None for time in times)]
    return [{**row, **{time: micros(row[time]) for time in times}} for row in whole]


def read(path: Path) -> pa.Table:
    """What was written, whatever the suffix."""
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".arrow":
        return pa.ipc.open_file(pa.OSFile(str(path))).read_all()
    return csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))


def plain(column: pa.ChunkedArray) -> list[Any]:
    """Python values as the oracle gives them."""
    if pa.types.is_timestamp(column.type):
        return list(column.cast(MICROS).cast(pa.int64()).to_pylist())
    if pa.types.is_map(column.type):
        return [None if value is None else dict(value) for value in column.to_pylist()]
    return list(column.to_pylist())


@pytest.mark.parametrize(
    ("suffix", "out", "refs", "inclusive"),
    [
        (".csv", "out.parquet", "advice", False),
        (".parquet", "out.arrow", "advice", True),
        (".ndjson", "out.csv", "advice", False),
        (".csv", "out.parquet", "recent:*,habits:visits,offers:discount", True),
    ],
)
def test_a_join_gives_what_the_oracle_gives(
    shop: Shop, tmp_path: Path, suffix: str, out: str, refs: str, inclusive: bool
) -> None:
    """Ties, nulls, repeated ids, late rows, schedules, a clock change: every value of every row."""
    spine = write_spine(tmp_path, suffix)
    done = shop.join(spine, tmp_path / out, refs, *(["--inclusive"] if inclusive else []))
    assert done.returncode == 0, done.stderr
    found, rows, plan = read(tmp_path / out), spine_rows(), resolve(shop.library, refs)
    given = list(rows[0])
    assert found.column_names == [*given, *(output.column for output in plan.outputs)]
    for name in given:
        expected = spine_table(rows).column(name)
        assert plain(found.column(name)) == plain(expected), name
    answers = {output.column: plain(found.column(output.column)) for output in plan.outputs}
    for i, row in enumerate(rows):
        moment = None if row["asked_at"] is None else datetime.fromisoformat(row["asked_at"])
        for name, value in joined(plan, shop.sources, row, micros(moment), inclusive).items():
            assert answers[name][i] == value, (name, row, answers[name][i], value)
    assert len({json.dumps(answer, default=str) for answer in answers["habits__visits"]}) > 5


def test_the_same_join_gives_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    """Only spine, definitions and snapshots decide what is written; -o json names the snapshots."""
    spine = write_spine(tmp_path, ".parquet")
    for out in ("one.parquet", "two.parquet"):
        done = shop.join(spine, tmp_path / out, "advice", "-o", "json")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    told = json.loads(done.stdout)
    assert (told["rows"], set(told["snapshots"])) == (
        len(spine_rows()),
        {"lake.visits", "lake.sales"},
    )


@dataclass(frozen=True)
class Mistake:
    """Something wrong with a join, and what the error must say."""

    told: str
    hint: str
    refs: str = "advice"
    change: str = ""
    value: Any = None
    suffix: str = ".parquet"
    out: str = "out.parquet"


NAIVE = datetime(2025, 11, 2, tzinfo=UTC).replace(tzinfo=None)
MISTAKES = {
    "no such feature": Mistake("no feature 'visitz'", "visits", refs="habits:visitz"),
    "no such view": Mistake("no view 'habbits'", "habits", refs="habbits:*"),
    "no such service": Mistake("no feature service 'advise'", "advice", refs="advise"),
    "no reference": Mistake("not a feature reference", "view:feature", refs="habits:,x"),
    "key of another type": Mistake("'shop'", "never cast", change="shop", value=["0"]),
    "float key": Mistake("'shop'", "never cast", change="shop", value=[0.0]),
    "number for text": Mistake("'user'", "never cast", change="user", value=[7]),
    "naive time": Mistake(
        "without a time zone", "UTC", change="asked_at", value=[NAIVE]
    ),
    "naive time in text": Mistake(
        "no time zone", "zone", change="asked_at", value=["2025-11-02 01:30:00"], suffix=".csv"
    ),
    "no time": Mistake("'asked_at'", "", change="asked_at"),
    "no key": Mistake("no column 'friend'", "", change="friend"),
    "no request field": Mistake("no column 'amount'", "", change="amount"),
    "column taken": Mistake(
        "'habits__visits'", "Rename", change="habits__visits", value=[1]
    ),
    "bad number in text": Mistake(
        "'one' is not int", "whole number", change="shop", value=["one"], suffix=".csv"
    ),
    "unknown output": Mistake("kind of file", ".parquet", out="out.xlsx"),
    "no folder": Mistake("no folder", "Make it", out="nowhere/out.parquet"),
    "lists in text": Mistake("CSV cannot hold", ".parquet", refs="recent:*", out="out.csv"),
    "nothing ingested": Mistake("lake.never", "features ingest", refs="unseen:*"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """Exit 1 or 2 with what and a hint, no stack trace; the old output stays, no scratch does."""
    mistake = MISTAKES[name]
    table = spine_table(spine_rows()[:1])
    if mistake.change:
        names = [n for n in table.column_names if n != mistake.change]
        table = table.select(names)
    if mistake.value is not None:
        table = table.append_column(mistake.change, pa.array(mistake.value))
    spine = tmp_path / f"spine{mistake.suffix}"
    (csv.write_csv if mistake.suffix == ".csv" else pq.write_table)(table, spine)
    out = tmp_path / mistake.out
    if out.parent == tmp_path:
        out.write_bytes(b"old")
    monkeypatch.setenv("TONDO_HOME", str(shop.home))
    code = run(shop.arguments(spine, out, mistake.refs))
    told = capsys.readouterr()
    assert code in (1, 2)
    assert mistake.told in told.err
    assert mistake.hint in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {spine.name, *([out.name] if out.parent == tmp_path else [])}
    )
    assert out.parent != tmp_path or out.read_bytes() == b"old"


def test_a_missing_spine_is_told(shop: Shop, tmp_path: Path) -> None:
    """A path that leads nowhere is an error with a hint, not an empty answer."""
    done = shop.join(tmp_path / "no.parquet", tmp_path / "out.parquet", "advice")
    assert done.returncode in (1, 2)
    assert "there is no file" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_empty_spine_gives_its_columns(shop: Shop, tmp_path: Path) -> None:
    """No rows are asked, so none come, with every column."""
    pq.write_table(spine_table(spine_rows()).slice(0, 0), tmp_path / "spine.parquet")
    done = shop.join(tmp_path / "spine.parquet", tmp_path / "out.parquet", "advice")
    assert done.returncode == 0, done.stderr
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.num_rows == 0
    assert "friend__visits" in found.column_names


def test_text_from_other_files_has_many_dictionaries(shop: Shop, tmp_path: Path) -> None:
    """Keys that Parquet keeps as dictionaries, another one in each row group, are answered."""
    table = spine_table(spine_rows())
    place = table.column_names.index("user")
    users = pc.dictionary_encode(table.column("user"))
    table = table.set_column(place, "user", users)
    pq.write_table(table, tmp_path / "spine.parquet", row_group_size=7)
    for out in ("out.parquet", "out.arrow"):
        done = shop.join(tmp_path / "spine.parquet", tmp_path / out, "advice")
        assert done.returncode == 0, done.stderr
        assert read(tmp_path / out).column("user").to_pylist() == table.column("user").to_pylist()
