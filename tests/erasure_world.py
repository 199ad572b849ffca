"""An installation that holds a random key wherever a key can be, and ways to look for it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import MANIFEST_ENTRY_SCHEMAS

from app.compose import Platform
from app.online_jobs import get_online
from features import Entity, FeatureService, FeatureView, Source, col, count, last
from features import sum as total
from features.library import Library
from features.offline.join import join_local
from features.offline.training_set import build_training_set
from features.online.materialize import materialize
from features.plan import resolve
from serving.prediction_log import LOG_PREFIX, fixed_columns
from serving.spool import SpoolSink

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
BY_SHOP = FeatureView("by_shop", entity=Entity("shop", key="shop", type=int), source=TAPS,
                      features={"n": count()})  # fmt: skip
SERVICE = FeatureService("svc", [TAPPING, TAPPING.as_("payee", key={"card": "payee"}), BY_PAIR])
DEFINITIONS = [CARD, PAIR, TAPS, TAPPING, BY_PAIR, SERVICE]
LIBRARY = Library.from_definitions(DEFINITIONS)


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


def fill(made: Platform, tondo: Callable[..., Any], folder: Path) -> None:
    """Rows in lake, stream, online store, prediction log, training sets and runs."""
    files = [
        write_csv(folder / "a.csv", taps("a", 30, KEY)),
        write_csv(folder / "b.csv", [*taps("b", 12, KEY, ID), taps("m", 1, KEY)[0] | {"at": ""}]),
        write_csv(folder / "c.csv", taps("c", 12)),
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
