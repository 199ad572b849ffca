"""The LMDB store does what the store in memory does, whatever is asked of them in which order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from features.errors import FeatureError
from features.online.lmdb import LmdbStore
from features.online.memory import MemoryStore
from features.online.store import Head, OnlineStore, Version

Step = Callable[[OnlineStore], Any]

VIEWS = ("a@1", "b@2")
KEYS = (b"", b"k", b"K" * 510, b"K" * 511, b"K" * 600)
VERSIONS = [
    Version(view, number, cut, 2) for view in VIEWS for number in (1, 2, 3) for cut in (10, 20)
]

versions = st.sampled_from(VERSIONS)
times = st.integers(0, 30)
cells = st.lists(st.tuples(st.sampled_from(KEYS), st.binary(max_size=3)), max_size=4)
heads = st.builds(Head, st.integers(0, 4), st.none() | st.integers(-5, 5), st.integers(-5, 5))


def tails(version: Version, rows: list[tuple[bytes, bytes]]) -> Step:
    """Writes a tail."""
    return lambda store: store.write_tail(version, iter(rows))


def heads_of(version: Version, partition: int, rows: list[tuple[bytes, bytes]], head: Head) -> Step:
    """Writes to a head."""
    return lambda store: store.write_head(version, partition, iter(rows), head)


steps = st.one_of(
    st.builds(tails, versions, cells),
    st.builds(heads_of, versions, st.integers(0, 1), cells, heads),
    st.builds(lambda version: lambda store: store.publish(version), versions),
    st.builds(lambda version: lambda store: store.drop(version), versions),
    st.builds(lambda view: lambda store: store.versions(view), st.sampled_from(VIEWS)),
)


def outcome(step: Step, store: OnlineStore) -> Any:
    """What a step returns, or the error that it raises."""
    try:
        return step(store)
    except FeatureError as error:
        return type(error), error.args


@given(st.lists(st.tuples(steps, times), max_size=25))
def test_two_stores_one_behaviour(script: list[tuple[Step, int]]) -> None:
    """Same answers, same errors; a second LMDB store of the same files answers the same."""
    everything = [(view, key) for view in VIEWS for key in KEYS]
    with tempfile.TemporaryDirectory() as folder:
        model = MemoryStore()
        store, beside = LmdbStore(Path(folder)), LmdbStore(Path(folder))
        for step, at in script:
            assert outcome(step, store) == outcome(step, model)
            expected = model.read(everything, at)
            assert store.read(everything, at) == expected
            assert beside.read(everything, at) == expected
        reopened = LmdbStore(Path(folder))
        assert [reopened.versions(view) for view in VIEWS] == [
            model.versions(view) for view in VIEWS
        ]
