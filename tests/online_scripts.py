"""Scripts of steps for online stores: two stores that run one must give the same answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from features.errors import FeatureError
from features.online.store import Head, OnlineStore, Version

Step = Callable[[OnlineStore], Any]
Script = list[tuple[Step, int]]
"""Steps, each with the time (UTC µs) of the question after it."""

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


def erased(view: str, keys: list[bytes]) -> Step:
    """Erases entities from a view."""
    return lambda store: store.erase(view, keys)


steps = st.one_of(
    st.builds(tails, versions, cells),
    st.builds(heads_of, versions, st.integers(0, 1), cells, heads),
    st.builds(lambda version: lambda store: store.publish(version), versions),
    st.builds(lambda version: lambda store: store.drop(version), versions),
    st.builds(lambda view: lambda store: store.versions(view), st.sampled_from(VIEWS)),
    st.builds(erased, st.sampled_from(VIEWS), st.lists(st.sampled_from(KEYS), max_size=2)),
    st.just(lambda store: store.views()),
)


def outcome(step: Step, store: OnlineStore) -> Any:
    """What a step returns, or the error that it raises."""
    try:
        return step(store)
    except FeatureError as error:
        return type(error), error.args


scripts = st.lists(st.tuples(steps, times), max_size=25)
EVERYTHING = [(view, key) for view in VIEWS for key in KEYS]


def run_beside(script: Script, model: OnlineStore, *stores: OnlineStore) -> None:
    """Runs a script on the model and the first store, and reads all stores after each step."""
    for step, at in script:
        assert outcome(step, stores[0]) == outcome(step, model)
        expected = model.read(EVERYTHING, at)
        for store in stores:
            assert store.read(EVERYTHING, at) == expected
