"""The catalog: every resource, its status, and the record of every change, in one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from app.control.documents import resource_data, resource_from, status_data, status_from
from app.control.resources import Resource, Status, Stored
from app.errors import Conflict, DamagedData, NotFound, Unavailable
from features.clock import Clock
from features.naming import did_you_mean
from training.gallery.lock import WriterLock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    kind TEXT, name TEXT, generation INTEGER, version INTEGER, created INTEGER, updated INTEGER,
    resource BLOB, status BLOB, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, kind TEXT, name TEXT, action TEXT,
    actor TEXT, generation INTEGER, data BLOB);
CREATE INDEX IF NOT EXISTS events_of ON events (kind, name, position);
"""
_COLUMNS = "kind, name, generation, version, created, updated, resource, status"


@dataclass(frozen=True, slots=True)
class Put:
    """Write a resource if its version is still ``expect``; 0 means that there is none yet."""

    resource: Resource
    expect: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a resource if its version is still ``expect``."""

    kind: str
    name: str
    expect: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change that the catalog went through; ``at`` in UTC µs."""

    position: int
    at: int
    kind: str
    name: str
    action: str
    actor: str
    generation: int
    data: dict[str, Any]


class Catalog:
    """Resources by compare-and-set, with the history of every change.

    Threads may share it, processes may not write at once: a second writer gets Conflict that names
    the first. ``read_only`` takes no lock.
    """

    def __init__(
        self, path: Path, clock: Clock, *, who: str = "a catalog writer", read_only: bool = False
    ) -> None:
        self._clock = clock
        self._mutex = threading.RLock()
        self._lock = None if read_only else WriterLock(path.with_suffix(".lock"), who)
        try:
            self._db = _reader(path) if read_only else _writer(path)
        except sqlite3.Error as error:
            self._unlock()
            raise Unavailable(f"the catalog {path} cannot be opened: {error}") from error

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and lets the next writer in."""
        with self._mutex:
            self._db.close()
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def get(self, kind: str, name: str) -> Stored:
        """One resource; raises NotFound with what there is."""
        with self._reading():
            row = self._row(kind, name)
            if row is None:
                names = [r[0] for r in self._db.execute(_NAMES, (kind,))]
                raise NotFound(f"there is no {kind} {name!r}", did_you_mean(name, names, kind))
            return _stored(row)

    def list(self, kind: str | None = None) -> tuple[Stored, ...]:
        """All resources of a kind, or of all, by kind and name."""
        query = f"SELECT {_COLUMNS} FROM resources WHERE ?1 IS NULL OR kind = ?1"
        with self._reading():
            rows = self._db.execute(f"{query} ORDER BY kind, name", (kind,)).fetchall()
            return tuple(_stored(row) for row in rows)

    def write(self, changes: Sequence[Put | Delete], actor: str = "") -> tuple[Stored, ...]:
        """Makes all changes or none; returns what was put.

        Raises Conflict for a resource that somebody changed meanwhile.
        """
        with self._transaction():
            done = [self._change(change, actor) for change in changes]
        return tuple(stored for stored in done if stored is not None)

    def set_status(self, kind: str, name: str, status: Status) -> Stored:
        """Writes what the platform found; the spec and its version stay. Raises NotFound."""
        with self._transaction():
            stored = self.get(kind, name)
            if stored.status == status:
                return stored
            data = status_data(status)
            query = "UPDATE resources SET status = ? WHERE kind = ? AND name = ?"
            self._db.execute(query, (_dumps(data), kind, name))
            if stored.status.phase != status.phase:
                shown = {"from": stored.status.phase, "to": status.phase}
                self._record(stored, "phase", "control", shown)
            return replace(stored, status=status)

    def events(self, kind: str | None = None, name: str | None = None) -> tuple[Event, ...]:
        """The changes of one resource, of a kind or of all, oldest first."""
        query = (
            "SELECT position, at, kind, name, action, actor, generation, data FROM events"
            " WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR name = ?2) ORDER BY position"
        )
        with self._reading():
            rows = self._db.execute(query, (kind, name)).fetchall()
        return tuple(_event(row) for row in rows)

    def _change(self, change: Put | Delete, actor: str) -> Stored | None:
        if isinstance(change, Put):
            return self._put(change, actor)
        self._delete(change, actor)
        return None

    def _put(self, put: Put, actor: str) -> Stored:
        resource, now = put.resource, self._clock.now()
        row = self._row(resource.kind, resource.name)
        before = _stored(row) if row else None
        self._check(resource.kind, resource.name, before, put.expect)
        stored = _next(before, resource, now)
        values = (resource.kind, resource.name, stored.generation, stored.version)
        times = (stored.created_at, stored.updated_at)
        blobs = (_dumps(resource_data(resource)), _dumps(status_data(stored.status)))
        query = f"INSERT OR REPLACE INTO resources ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(query, (*values, *times, *blobs))
        self._record(stored, "create" if before is None else "update", actor, _summary(resource))
        return stored

    def _delete(self, delete: Delete, actor: str) -> None:
        stored = self.get(delete.kind, delete.name)
        self._check(delete.kind, delete.name, stored, delete.expect)
        query = "DELETE FROM resources WHERE kind = ? AND name = ?"
        self._db.execute(query, (delete.kind, delete.name))
        self._record(stored, "delete", actor, _summary(stored.resource))

    def _check(self, kind: str, name: str, found: Stored | None, expect: int) -> None:
        version = found.version if found else 0
        if version != expect:
            raise Conflict(
                f"{kind}/{name} is at version {version}, not {expect}: somebody changed it",
                "Plan again and look at what changed.",
            )

    def _record(self, stored: Stored, action: str, actor: str, data: dict[str, Any]) -> None:
        resource = stored.resource
        row = (self._clock.now(), resource.kind, resource.name, action, actor, stored.generation)
        query = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(query, (*row, _dumps(data)))

    def _row(self, kind: str, name: str) -> Any:
        query = f"SELECT {_COLUMNS} FROM resources WHERE kind = ? AND name = ?"
        return self._db.execute(query, (kind, name)).fetchone()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._mutex:
            try:
                yield
            except sqlite3.Error as error:
                raise Unavailable(f"the catalog cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reading():
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise


_NAMES = "SELECT name FROM resources WHERE kind = ? ORDER BY name"


def _writer(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(_SCHEMA)
    return db


def _reader(path: Path) -> sqlite3.Connection:
    if not path.exists():
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        db.executescript(_SCHEMA)
        return db
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)


def _next(before: Stored | None, resource: Resource, now: int) -> Stored:
    if before is None:
        return Stored(resource, generation=1, version=1, created_at=now, updated_at=now)
    same = before.resource.same_meaning(resource)
    return replace(
        before,
        resource=resource,
        generation=before.generation + (0 if same else 1),
        version=before.version + 1,
        updated_at=now,
    )


def _summary(resource: Resource) -> dict[str, Any]:
    return {"fingerprint": resource.fingerprint, "project": resource.project}


def _stored(row: Any) -> Stored:
    try:
        resource = resource_from(orjson.loads(row[6]))
        status = status_from(orjson.loads(row[7]))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedData(f"the catalog's row of {row[0]}/{row[1]} cannot be read") from error
    return Stored(resource, row[2], row[3], row[4], row[5], status)


def _event(row: Any) -> Event:
    position, at, kind, name, action, actor, generation, data = row
    return Event(position, at, kind, name, action, actor, generation, orjson.loads(data))


def _dumps(data: Any) -> bytes:
    return orjson.dumps(data)
