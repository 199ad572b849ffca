"""The LMDB store does what the store in memory does, whatever is asked of them in which order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given

from features.online.lmdb import LmdbStore
from features.online.memory import MemoryStore
from tests.online_scripts import VIEWS, Script, run_beside, scripts


@given(scripts)
def test_two_stores_one_behaviour(script: Script) -> None:
    """Same answers, same errors; a second LMDB store of the same files answers the same."""
    with tempfile.TemporaryDirectory() as folder:
        model = MemoryStore()
        store, beside = LmdbStore(Path(folder)), LmdbStore(Path(folder))
        run_beside(script, model, store, beside)
        reopened = LmdbStore(Path(folder))
        assert [reopened.versions(view) for view in VIEWS] == [
            model.versions(view) for view in VIEWS
        ]
