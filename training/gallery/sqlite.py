"""Gallery in one SQLite file: write-ahead log, fsync before the answer, one writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from features.clock import Clock
from features.errors import DamagedData, NotFound, Unavailable
from training.gallery.audit import AuditEntry, next_entry
from training.gallery.data import from_data
from training.gallery.lock import WriterLock
from training.gallery.model_version import AliasMove, ModelVersion, check_alias, check_draft
from training.gallery.schema import SCHEMA
from training.gallery.transitions import (
    check_move,
    content_of,
    creation_data,
    move_data,
    same_creation,
    unknown_family,
    unknown_version,
)
from training.gallery.verification import verify_store

_AUDIT = "SELECT position, at, actor, action, subject, data, previous, hash FROM audit"
_MOVES = "SELECT family, alias, target, previous, at, actor, reason FROM alias_moves"


class SqliteGallery:
    """Implements Gallery and Audit in ``path``; threads may share it, processes may not.

    A second writer gets Conflict that names the first. ``read_only`` takes no lock and may be
    opened beside a writer; its path must exist. Close it, or use it in ``with``.
    """

    def __init__(
        self, path: Path, clock: Clock, *, who: str = "a Gallery writer", read_only: bool = False
    ) -> None:
        self._clock = clock
        self._path = path
        self._mutex = threading.RLock()
        self._lock = None if read_only else WriterLock(path.with_suffix(".lock"), who)
        try:
            with self._errors():
                self._db = _reader(path) if read_only else _writer(path)
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> SqliteGallery:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and lets the next writer in."""
        with self._mutex:
            self._db.close()
            self._unlock()

    def _unlock(self) -> None:
        if self._lock:
            self._lock.release()
            self._lock = None

    def create(self, draft: ModelVersion) -> ModelVersion:
        """Numbers and keeps a draft in one transaction; see Gallery."""
        check_draft(draft)
        with self._transaction():
            existing = self._of_run(draft)
            if existing:
                return same_creation(existing, draft)
            query = "SELECT coalesce(max(version), 0) + 1 FROM versions WHERE family = ?"
            number = self._db.execute(query, (draft.family,)).fetchone()[0]
            version = replace(draft, version=number, created_at=self._clock.now())
            self._insert(version)
            self._record(version.created_at, version.owner, "create", version.name, version)
            return version

    def get(self, family: str, reference: int | str) -> ModelVersion:
        """One version by number or alias; see Gallery."""
        with self._reading():
            number = reference
            if isinstance(reference, str):
                number = self._alias(family, reference) or 0
            query = "SELECT content FROM versions WHERE family = ? AND version = ?"
            row = self._db.execute(query, (family, number)).fetchone()
            if row is None:
                raise self._unknown(family, reference)
            return _version(row[0])

    def list(self, family: str | None = None) -> tuple[ModelVersion, ...]:
        """Versions by family and number; see Gallery."""
        query = "SELECT content FROM versions WHERE ?1 IS NULL OR family = ?1"
        with self._reading():
            rows = self._db.execute(f"{query} ORDER BY family, version", (family,))
            return tuple(_version(row[0]) for row in rows)

    def move_alias(
        self,
        family: str,
        alias: str,
        to: int | None,
        expect: int | None,
        *,
        actor: str = "",
        reason: str = "",
    ) -> AliasMove:
        """Moves an alias by compare-and-set in one transaction; see Gallery."""
        check_alias(alias)
        with self._transaction():
            if to is not None:
                self.get(family, to)
            current = self._alias(family, alias)
            check_move(family, alias, current, expect)
            move = AliasMove(family, alias, to, current, self._clock.now(), actor, reason)
            self._point(move)
            self._record(move.at, actor, "move_alias", family, move)
            return move

    def history(self, family: str) -> tuple[AliasMove, ...]:
        """The family's alias moves, oldest first."""
        with self._reading():
            rows = self._db.execute(f"{_MOVES} WHERE family = ? ORDER BY position", (family,))
            return tuple(AliasMove(*row) for row in rows)

    def entries(self) -> tuple[AuditEntry, ...]:
        """The audit record, oldest first."""
        with self._reading():
            return tuple(_entry(row) for row in self._db.execute(f"{_AUDIT} ORDER BY position"))

    def verify(self) -> int:
        """How many audit entries hold; raises DamagedData if anything recorded was changed."""
        with self._reading():
            query = "SELECT family, version, CAST(content AS BLOB) FROM versions"
            versions = self._db.execute(query).fetchall()
            return verify_store(self.entries(), versions, self._aliases())

    def _aliases(self) -> dict[tuple[str, str], int]:
        rows = self._db.execute("SELECT family, alias, version FROM aliases")
        return {(family, alias): version for family, alias, version in rows}

    def _of_run(self, draft: ModelVersion) -> ModelVersion | None:
        if not draft.lineage.run_id:
            return None
        query = "SELECT content FROM versions WHERE family = ? AND run = ?"
        row = self._db.execute(query, (draft.family, draft.lineage.run_id)).fetchone()
        return _version(row[0]) if row else None

    def _insert(self, v: ModelVersion) -> None:
        key = (v.family, v.version)
        row = (*key, v.digest, v.lineage.run_id, v.created_at, content_of(v))
        self._db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", row)
        metrics = [(*key, m.name, m.split, m.segment, m.value) for m in v.metrics]
        self._db.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", metrics)
        edges = [(*key, *edge) for edge in _edges(v)]
        self._db.executemany("INSERT INTO lineage VALUES (?, ?, ?, ?, ?)", edges)

    def _point(self, move: AliasMove) -> None:
        key = (move.family, move.alias)
        self._db.execute("DELETE FROM aliases WHERE family = ? AND alias = ?", key)
        if move.to is not None:
            self._db.execute("INSERT INTO aliases VALUES (?, ?, ?)", (*key, move.to))
        row = (*key, move.to, move.previous, move.at, move.actor, move.reason)
        self._db.execute("INSERT INTO alias_moves VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)

    def _record(
        self, at: int, actor: str, action: str, subject: str, what: ModelVersion | AliasMove
    ) -> None:
        data = creation_data(what) if isinstance(what, ModelVersion) else move_data(what)
        row = self._db.execute(f"{_AUDIT} ORDER BY position DESC LIMIT 1").fetchone()
        last = _entry(row) if row else None
        e = next_entry(last, at=at, actor=actor, action=action, subject=subject, data=data)
        content = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
        values = (e.position, e.at, e.actor, e.action, e.subject, content, e.previous, e.hash)
        self._db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _alias(self, family: str, alias: str) -> int | None:
        query = "SELECT version FROM aliases WHERE family = ? AND alias = ?"
        row = self._db.execute(query, (family, alias)).fetchone()
        return int(row[0]) if row else None

    def _unknown(self, family: str, reference: int | str) -> NotFound:
        counts = dict(self._db.execute("SELECT family, count(*) FROM versions GROUP BY family"))
        if family not in counts:
            return unknown_family(family, counts)
        return unknown_version(family, reference, counts[family])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._mutex, self._errors():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and on disk before it returns."""
        with self._mutex, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise Unavailable(
                f"Gallery at {self._path}: {error}",
                "Is the folder there and writable, and the disk not full? Nothing was changed.",
            ) from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise DamagedData(
                f"Gallery at {self._path}: {error}", "Restore the file from a backup."
            ) from error


def _writer(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 10000"):
        db.execute(f"PRAGMA {setting}")
    db.executescript(SCHEMA)
    return db


def _reader(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise NotFound(f"there is no Gallery at {path}", "Train a model first: tondo train MODEL.")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA busy_timeout = 10000")
    return db


def _version(content: bytes) -> ModelVersion:
    return from_data(orjson.loads(content))


def _entry(row: tuple[Any, ...]) -> AuditEntry:
    position, at, actor, action, subject, data, previous, seal = row
    return AuditEntry(position, at, actor, action, subject, orjson.loads(data), previous, seal)


def _edges(version: ModelVersion) -> Iterator[tuple[str, str, str]]:
    line = version.lineage
    yield from (("snapshot", table, str(snapshot)) for table, snapshot in line.snapshots.items())
    yield from (("feature", view, print_) for view, print_ in line.features.items())
    yield from (("parent", str(parent), "") for parent in line.parents)
    yield "code", line.code_digest, line.commit
    yield "training_set", line.training_set, ""
