"""A session with Cassandra: its profile, statements in bounded numbers, its errors as ours."""

from __future__ import annotations

import contextlib
import math
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cassandra import ConsistencyLevel, DriverException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import ErrorMessage
from cassandra.query import tuple_factory

from features.errors import BadInput, Unavailable
from features.online.cassandra.schema import checked_keyspace, create_schema

CONCURRENCY = 64
"""How many statements of one call are under way at once."""

_PROTOCOL = 5  # Cassandra 4.0 and later
_WRITE_TRIES = 3
_NOBODY = "Are its nodes up, reachable from here, and in the data centre of the settings?"
_SPECULATE_AFTER = 0.25  # of the deadline: then another replica's coordinator is asked as well

_ERRORS = (DriverException, ErrorMessage, NoHostAvailable, ConnectionException, ConnectionBusy)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class CassandraOptions:
    """Where Cassandra is and how long it may take.

    ``data_centre`` is the one whose nodes are asked and whose quorum counts. ``replication`` is how
    many of its nodes keep each cell, if the keyspace has to be made. ``deadline_s`` bounds each
    statement, in seconds.
    """

    contact_points: tuple[str, ...]
    data_centre: str
    keyspace: str = "tondo"
    port: int = 9042
    replication: int = 3
    deadline_s: float = 2.0
    user: str = ""
    password_file: str = ""
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement in CQL on the tables of ``{keyspace}``.

    A ``serial`` one reads what lightweight transactions have agreed on. One that is not
    ``idempotent`` is never sent twice on suspicion.
    """

    cql: str
    serial: bool = False
    idempotent: bool = True


class Database:
    """A session with the tables that the store needs, opened by the first statement.

    It may be shared by threads, not by processes. Statements are prepared, at LOCAL_QUORUM.
    Keyspace and tables are made if they are not there. Raises Unavailable for whatever the driver
    reports.
    """

    def __init__(self, options: CassandraOptions) -> None:
        if Cluster.connection_class is not LibevConnection:
            raise Unavailable(
                "The Cassandra driver runs without its libev event loop.",
                "Install the driver from its wheel; do not import gevent or eventlet.",
            )
        self._options = options
        self._keyspace = checked_keyspace(options.keyspace)
        self._auth, self._tls = _auth(options), _tls(options)
        self._opened: Any = None
        self._prepared: dict[Statement, Any] = {}
        self._lock = threading.Lock()
        self._failed = -math.inf  # when, by the monotonic clock

    def rows(self, statement: Statement, values: Row) -> list[Row]:
        """All rows of one statement."""
        with answers():
            return list(self.session.execute(self._ready(statement), values))

    def many(self, statement: Statement, values: Sequence[Row]) -> list[list[Row]]:
        """The rows of one statement for each of the values, in order; all or Unavailable."""
        if len(values) == 1:
            return [self.rows(statement, values[0])]
        with answers():
            found = execute_concurrent_with_args(
                self.session, self._ready(statement), values, concurrency=CONCURRENCY
            )
            return [list(result.result_or_exc) for result in found]

    def write(self, statement: Statement, values: Sequence[Row]) -> None:
        """Writes each of the values; all of them again if some failed, for they are idempotent."""
        for left in reversed(range(_WRITE_TRIES)):
            try:
                self.many(statement, values)
            except Unavailable:
                if not left:
                    raise
            else:
                return

    @property
    def session(self) -> Any:
        """The driver's session; errors are the driver's own."""
        if self._opened is None:
            began = time.monotonic()
            with self._lock:
                if self._opened is None:
                    self._opened = self._connected(began)
        return self._opened

    def grace_s(self) -> int:
        """How long Cassandra keeps the marks of what was removed, in seconds."""
        with answers():
            known = self.session.cluster.metadata.keyspaces[self._keyspace]
            return int(max(table.options["gc_grace_seconds"] for table in known.tables.values()))

    def close(self) -> None:
        """Ends the session and its threads."""
        if self._opened is not None:
            self._opened.cluster.shutdown()

    def _ready(self, statement: Statement) -> Any:
        ready = self._prepared.get(statement)
        if ready is None:
            ready = self.session.prepare(statement.cql.format(keyspace=self._keyspace))
            ready.is_idempotent = statement.idempotent
            if statement.serial:
                ready.consistency_level = ConsistencyLevel.LOCAL_SERIAL
            self._prepared[statement] = ready
        return ready

    def _connected(self, began: float) -> Any:
        """A new session; who has waited for another thread's try does not add one to it."""
        if self._failed > began:
            raise Unavailable("Cassandra cannot be reached.", _NOBODY)
        options = self._options
        cluster = Cluster(
            list(options.contact_points),
            port=options.port,
            protocol_version=_PROTOCOL,
            execution_profiles={EXEC_PROFILE_DEFAULT: _profile(options)},
            auth_provider=self._auth,
            ssl_context=self._tls,
            connect_timeout=options.deadline_s,
            control_connection_timeout=options.deadline_s,
            prepare_on_all_hosts=False,  # each host that does not answer would cost a deadline
        )
        try:
            session = cluster.connect()
            # What preparing waits for; the public setter refuses a session with profiles.
            session._default_timeout = options.deadline_s
            create_schema(session, self._keyspace, options.data_centre, options.replication)
        except BaseException:
            self._failed = time.monotonic()
            cluster.shutdown()
            raise
        return session


def _profile(options: CassandraOptions) -> Any:
    return ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(
            DCAwareRoundRobinPolicy(local_dc=options.data_centre)
        ),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=options.deadline_s,
        row_factory=tuple_factory,
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(
            options.deadline_s * _SPECULATE_AFTER, 1
        ),
    )


def _auth(options: CassandraOptions) -> Any:
    if not options.user:
        return None
    try:
        password = Path(options.password_file).read_text().strip()
    except OSError as error:
        raise BadInput(
            f"The password of Cassandra cannot be read: {error}",
            "It is the one line of the password file.",
        ) from None
    return PlainTextAuthProvider(options.user, password)


def _tls(options: CassandraOptions) -> ssl.SSLContext | None:
    if not options.ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        raise BadInput(
            f"The certificate authority of Cassandra cannot be read: {error}", "A file in PEM form."
        ) from None


@contextlib.contextmanager
def answers() -> Iterator[None]:
    """Turns the driver's errors into Unavailable."""
    try:
        yield
    except _ERRORS as error:
        what = f"Cassandra cannot answer: {type(error).__name__}: {error}"
        raise Unavailable(what, _hint(error)) from error


def _hint(error: Exception) -> str:
    if isinstance(error, NoHostAvailable):
        return _NOBODY
    return "Are enough replicas of the data centre up? Look: nodetool status"
