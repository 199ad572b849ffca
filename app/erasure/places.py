"""Every place of an installation that keeps something by an entity's key, and how it is cleaned.

Each function cleans one kind of place and can be called again; ``rows`` of a second call are 0.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.compose import Platform
from app.erasure.events import Met, checkpoint_of, keys_of
from app.prediction_table import LakePredictions
from features.library import Library
from features.offline.erased_sets import erase_from_parquet, erase_from_training_set
from features.offline.lake import OFFSET, PARTITION, Erased, Lake, Matcher
from features.offline.training_set import RECORD
from features.subject import Subject
from serving.prediction_log import LOG_PREFIX
from serving.spool import SpoolCommitter


@dataclass(frozen=True, slots=True)
class Place:
    """One place that was looked at: what it is, where, how it is cleaned, and what that came to.

    ``looked`` counts files or the like, ``rows`` what was removed, ``bytes`` the size of the files
    that were replaced.
    """

    kind: str
    name: str
    how: str
    looked: int
    rows: int
    bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What every place needs: the installation, its definitions, the subject, its events.

    ``keys`` are those to be erased by entity: that of the subject, and of other entities of which
    it is a part. ``changed`` are the source tables that have rows of it.
    """

    platform: Platform
    library: Library
    subject: Subject
    met: tuple[Met, ...]
    keys: Mapping[str, frozenset[bytes]]
    changed: frozenset[str]


def spool(ground: Ground) -> Iterator[Place]:
    """Prediction records on their way to the lake: brought there, to be erased there."""
    folder = ground.platform.home.spool
    if not folder.exists():
        return
    SpoolCommitter(folder, LakePredictions(ground.platform.lake())).commit()
    torn = [*folder.glob("*/.*.arrow"), *folder.glob("*/*.part")]
    for path in torn:  # whoever wrote them is dead: nothing is up
        path.unlink()
    yield Place("spool", "predictions", "committed to the lake, and erased there", len(torn), 0)


def tables(ground: Ground) -> Iterator[Place]:
    """Lake tables with the key's columns, dead letters, and prediction logs: all snapshots."""
    if not ground.platform.home.lake.exists():
        return
    lake = ground.platform.lake()
    for name in lake.tables():
        schema = lake.describe(name).schema
        if name.startswith(LOG_PREFIX):
            yield _table(lake, name, ["entities", "request"], _logged(ground.subject))
            continue
        own = list(dict.fromkeys(c for way in ground.subject.ways(schema) for c in way))
        met = [met for met in ground.met if name in met.tables and met.offsets]
        if own or met:
            columns = [*own, *([PARTITION, OFFSET] if met else [])]
            yield _table(lake, name, columns, _stored(ground.subject, met))


def online(ground: Ground) -> Iterator[Place]:
    """Tails and heads of all versions of the entity's views, and of views that nobody defines."""
    platform = ground.platform
    if platform.settings.online.store == "embedded" and not platform.home.online.exists():
        return
    store, keys = platform.online(), keys_of(ground.library, ground.keys)
    for view in store.views():
        if mine := keys(view):
            cells = store.erase(view, mine)
            yield Place("online", view, "cells removed from every version", 1, cells)


def checkpoints(ground: Ground) -> Iterator[Place]:
    """The states of stream partitions, and the ids of the entity's events."""
    keys = keys_of(ground.library, ground.keys)
    for met in ground.met:
        for partition in range(met.source.partitions):
            path = ground.platform.home.stream / str(met.source.stream) / str(partition)
            cells = checkpoint_of(met, partition, path, keys)
            name = f"{met.source.stream}/{partition}"
            yield Place("checkpoint", name, "rewritten without states and ids", 1, cells)


def logs(ground: Ground) -> Iterator[Place]:
    """Event logs: each event keeps its offset and says nothing any more. To be cleaned last."""
    for met in ground.met:
        log: Any = ground.platform.event_log(str(met.source.stream), met.source.partitions)
        with closing(log):
            rows = log.erase(met.offsets)
        how = "events blanked, offsets kept"
        yield Place("event log", str(met.source.stream), how, met.source.partitions, rows)


def remains(platform: Platform, library: Library) -> list[str]:
    """What servers keep for a while of what was erased, and until when."""
    left = list(platform.online().remains())
    for source in library.sources():
        if source.stream is not None:
            log: Any = platform.event_log(source.stream, source.partitions)
            with closing(log):
                left += log.remains()
    return list(dict.fromkeys(left))


def training_sets(ground: Ground) -> Iterator[Place]:
    """Joined rows; a set that lost some, or events it was made from, counts as erased."""
    folder = ground.platform.home.training_sets
    for left_over in folder.glob(".making-*"):
        shutil.rmtree(left_over)
    for path in sorted(folder.glob(f"*/{RECORD}")):
        done = erase_from_training_set(path.parent, ground.subject, ground.changed)
        yield _place("training set", path.parent.name, "rewritten, marked as erased", done)


def runs(ground: Ground) -> Iterator[Place]:
    """Files of training runs that have the key's columns."""
    folder = ground.platform.home.training
    done = [erase_from_parquet(path, ground.subject) for path in sorted(folder.rglob("*.parquet"))]
    if done:
        total = Erased(*(sum(getattr(one, n) for one in done) for n in Erased.__slots__))
        yield _place("training runs", "data", "rewritten where rows have the key's columns", total)


def _table(lake: Lake, name: str, columns: list[str], matches: Matcher) -> Place:
    done = lake.erase(name, columns, matches)
    return _place("lake table", name, "rewritten in every snapshot, old files removed", done)


def _place(kind: str, name: str, how: str, done: Erased) -> Place:
    return Place(kind, name, how, done.looked, done.rows, done.bytes)


def _stored(subject: Subject, met: list[Met]) -> Matcher:
    """Rows of the entity by their columns, or by their place in the log."""

    def matches(rows: pa.Table) -> Any:
        found = subject.rows_of(rows)
        for one in met:
            for partition, offsets in one.offsets.items():
                here = pc.equal(rows.column(PARTITION), partition)
                among = pc.is_in(rows.column(OFFSET), pa.array(sorted(offsets), pa.int64()))
                found = pc.or_(found, pc.fill_null(pc.and_(here, among), False))
        return found

    return matches


def _logged(subject: Subject) -> Matcher:
    """Predictions about the entity, in whatever role."""
    hint = orjson.dumps(subject.values[0]).decode().strip('"')

    def matches(rows: pa.Table) -> Any:
        texts = [rows.column("entities"), rows.column("request")]
        maybe = [pc.fill_null(pc.match_substring(text, hint), False) for text in texts]
        near = pc.or_(*maybe).to_pylist()
        pairs = zip(near, *(text.to_pylist() for text in texts), strict=True)
        return pa.array([is_near and _is_about(subject, *text) for is_near, *text in pairs])

    return matches


def _is_about(subject: Subject, entities: str | None, request: str | None) -> bool:
    return subject.is_in(orjson.loads(request or "{}") | orjson.loads(entities or "{}"))
