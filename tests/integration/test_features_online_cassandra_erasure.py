"""What is erased from a real Cassandra, on its disk."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path

import pytest

from features.clock import SystemClock
from features.online.cassandra import CassandraOptions, CassandraStore, Database
from features.online.cassandra.ledger import begun
from features.online.store import Head
from tests.online_promises import FIRST, SECOND, THIRD, VIEW, one, published
from tests.servers.cassandra import DATA_CENTRE, cassandra_nodes

pytestmark = [pytest.mark.cassandra, pytest.mark.slow, pytest.mark.timeout(600)]


def test_what_is_erased_leaves_the_disk(tmp_path: Path) -> None:
    """Once its time is over and the tables are compacted, no file has the key or a cell."""
    secret = secrets.token_hex(16).encode()

    def held() -> list[str]:
        return [str(p.relative_to(tmp_path)) for p in sorted((tmp_path).rglob("*"))
                if p.is_file() and secret in p.read_bytes()]  # fmt: skip

    with cassandra_nodes(tmp_path) as (own,):
        where, port = (own.address,), own.port
        options = CassandraOptions(where, DATA_CENTRE, "promises", port, replication=1,
                                   deadline_s=10.0)  # fmt: skip
        with closing(Database(options)) as database:
            for table in (
                "cells",
                "ledgers",
                "positions",
                "manifests",
            ):  # what an operator waits for, here at once
                alter = f"ALTER TABLE promises.{table} WITH compression = {{'enabled': false}}"
                database.session.execute(f"{alter} AND gc_grace_seconds = 0", timeout=60.0)
            store = CassandraStore(database, clock=SystemClock())
            published(store, FIRST)
            store.write_tail(SECOND, [(b"b", secret), (secret, b"x"), (b"c", b"kept")])
            store.publish(SECOND)
            store.write_head(SECOND, 0, [(secret, b"head"), (b"c", b"head")], Head(1, 1, 1))
            dead = store._part(THIRD, "tail")
            store._ledgers.change(VIEW, lambda ledger: begun(ledger, dead))
            store._parts.fill_tail(VIEW, dead, [(secret, b"cell")], 0)
            own.tool("flush", "promises")
            assert any("cells" in path for path in held())
            assert any("manifests" in path for path in held())
            assert store.erase(VIEW, [secret, b"b"]) == 3
            assert store.erase(VIEW, [secret, b"b"]) == 0
            assert "gc_grace_seconds" in store.remains()[0]
            own.tool("flush", "promises")
            own.tool("compact", "promises")
            own.tool("drain")
        own.process.kill()
        assert held() == []
        own.start()
        with closing(Database(options)) as database:
            store = CassandraStore(database, clock=SystemClock())
            assert one(store, b"c").tail == b"kept"
            assert one(store, b"c").heads == (b"head", None)
            assert (one(store, secret).tail, one(store, b"b").tail) == (None, None)
            assert store.views() == (VIEW,)
