"""What every online store promises, kept by those that need no server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from features.online.lmdb import LmdbStore
from features.online.memory import MemoryStore
from features.online.store import OnlineStore
from tests.online_promises import OnlineStorePromises


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OnlineStore:
    """Each implementation in turn, empty."""
    made: dict[str, Callable[[], OnlineStore]] = {
        "memory": MemoryStore,
        "lmdb": lambda: LmdbStore(tmp_path / "online"),
    }
    return made[request.param]()


class TestEmbeddedStores(OnlineStorePromises):
    """The store in memory and the one in LMDB files."""
