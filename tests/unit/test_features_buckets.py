"""Buckets: the same for the same key, everywhere."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from features.offline.buckets import bucket_of
from features.offline.iceberg import iceberg_bucket

TEXTS = st.lists(st.text(max_size=20), min_size=1, max_size=20)
NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20)


@given(values=TEXTS | NUMBERS, buckets=st.integers(1, 300))
def test_one_key_goes_where_iceberg_puts_it(values: list[str] | list[int], buckets: int) -> None:
    """Text and numbers are hashed as the Iceberg specification says, the empty text included."""
    array = pa.array(values)
    found = bucket_of(pa.table({"key": array}), buckets).tolist()
    assert found == iceberg_bucket(array, buckets).to_pylist()


@given(rows=st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), min_size=1))
def test_a_composite_key_has_one_bucket(rows: list[tuple[str, int]]) -> None:
    """Equal keys are together, whatever rows they came with and whatever the columns are called."""
    texts, numbers = zip(*rows, strict=True)
    whole = bucket_of(pa.table({"a": texts, "b": numbers}), 16).tolist()
    alone = [bucket_of(pa.table({"c": [t], "d": [n]}), 16)[0] for t, n in rows]
    assert whole == alone


def test_keys_are_spread() -> None:
    """Many keys fill all buckets about equally, composite ones too."""
    numbers = pa.array(range(16_000))
    for keys in (pa.table({"a": numbers}), pa.table({"a": numbers, "b": pa.repeat("x", 16_000)})):
        places = bucket_of(keys, 16).tolist()
        assert max(places.count(n) for n in range(16)) < 1_200


def test_null_keys_have_a_bucket() -> None:
    """A null key matches nothing, but its row must be answered: it goes to bucket 0."""
    keys = pa.table({"a": pa.array([None, "x"]), "b": pa.array([1, None])})
    assert bucket_of(keys, 7).tolist() == [0, 0]
    assert bucket_of(keys.slice(0, 0), 7).tolist() == []
