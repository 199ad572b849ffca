"""The online store in a real Cassandra: the promises of every store, and what is special here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from features.clock import SystemClock
from features.online.cassandra import CassandraOptions, CassandraStore, Database, connect
from features.online.memory import MemoryStore
from features.online.store import OnlineStore
from tests.online_promises import OnlineStorePromises
from tests.online_scripts import VIEWS, Script, run_beside, scripts
from tests.servers.cassandra import DATA_CENTRE, CassandraNode, cassandra_nodes

pytestmark = [pytest.mark.cassandra, pytest.mark.slow, pytest.mark.timeout(600)]

TABLES = ("cells", "ledgers", "positions", "manifests")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraNode]:
    """One node for the module."""
    with cassandra_nodes(tmp_path_factory.mktemp("cassandra")) as (started,):
        yield started


def options(node: CassandraNode, keyspace: str = "promises") -> CassandraOptions:
    """How to reach the node, with a patience for slow machines."""
    return CassandraOptions(
        (node.address,), DATA_CENTRE, keyspace, node.port, replication=1, deadline_s=10.0
    )


@pytest.fixture(scope="module")
def database(node: CassandraNode) -> Iterator[Database]:
    """A session for the module."""
    opened = connect(options(node))
    yield opened
    opened.close()


def emptied(database: Database) -> Database:
    """The same session over empty tables."""
    for table in TABLES:
        database._session.execute(f"TRUNCATE promises.{table}", timeout=60.0)
    return database


@pytest.fixture
def store(database: Database) -> OnlineStore:
    """An empty store."""
    return CassandraStore(emptied(database), clock=SystemClock())


class TestCassandra(OnlineStorePromises):
    """The promises of every store."""


@settings(max_examples=15)
@given(script=scripts)
def test_two_stores_one_behaviour(database: Database, script: Script) -> None:
    """Same answers and errors as in memory; a second store that believes nothing does too."""
    emptied(database)
    model = MemoryStore()
    first = CassandraStore(database, clock=SystemClock(), grace_s=0)
    run_beside(script, model, first, CassandraStore(database, clock=SystemClock(), life_s=0))
    again = CassandraStore(database, clock=SystemClock())
    assert [again.versions(view) for view in VIEWS] == [model.versions(view) for view in VIEWS]
