"""What holds for any input: one matrix in both forms, and metrics by their definitions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features import col, when
from training import scores
from training.package import bins_of, compile_rows, compile_table, matrix_columns
from training.testing import flights_plan

PLAN = flights_plan()
COLUMNS = {
    "mean": col("carrier_delay__mean_3h"),
    "flights": col("carrier_delay__flights_3h"),
    "ratio": col("carrier_delay__mean_3h") / col("carrier_delay__flights_3h"),
    "boston": col("leg__dest") == "BOS",
    "far": when(col("leg__distance") > 1_000).then(1.0).otherwise(col("leg__distance")),
    "product": col("carrier_delay__flights_3h") * col("carrier_delay__flights_3h"),
}
FLOATS = st.none() | st.floats(width=64)
ROWS = st.lists(
    st.tuples(
        FLOATS,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        FLOATS,
        st.none() | st.booleans(),
        st.none() | st.sampled_from(["BOS", "MIA", ""]),
    ),
    min_size=1,
    max_size=8,
)
LABELLED = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])),
    min_size=2,
    max_size=40,
)


def table_of(rows: list[tuple[object, ...]]) -> pa.Table:
    types = [pa.float64(), pa.int64(), pa.float64(), pa.bool_(), pa.string()]
    names = [output.column for output in PLAN.outputs]
    values = [pa.array(v, t) for v, t in zip(zip(*rows, strict=True), types, strict=True)]
    return pa.table(values, names=names)


@given(rows=ROWS, plain=st.booleans())
@settings(max_examples=150, deadline=None)
def test_rows_and_columns_give_one_matrix(rows: list[tuple[object, ...]], plain: bool) -> None:
    """Serving's row form and training's table form are equal bit for bit, whatever the values."""
    columns = matrix_columns(PLAN, None if plain else COLUMNS)
    by_row = compile_rows(PLAN, columns)(rows)
    by_table = compile_table(PLAN, columns)(table_of(rows))
    np.testing.assert_array_equal(by_row, by_table)
    assert not np.isinf(by_row).any()


@given(LABELLED)
@settings(max_examples=100, deadline=None)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, float]]) -> None:
    """AUC by ranks equals counting every pair of a positive and a negative row."""
    label, score = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in score[label == 1]
        for n in score[label == 0]
    ]
    found = scores.auc(label, score)
    if not pairs:
        assert found is None
        return
    assert found is not None
    np.testing.assert_allclose(found, np.mean(pairs))
    false, true = scores.roc(label, score)
    np.testing.assert_allclose(np.trapezoid(true, false), found)


@given(st.lists(st.floats(width=64, allow_infinity=False), max_size=200))
@settings(max_examples=100, deadline=None)
def test_reference_bins_hold_every_value_once(values: list[float]) -> None:
    """No bin of a reference is empty, and bins and missing values together are all values."""
    bins = bins_of(np.array(values, dtype=np.float64))
    assert sum(bins.counts) + bins.missing == len(values)
    assert len(bins.counts) == len(bins.edges) + 1 <= 10
    if sum(bins.counts):
        assert min(bins.counts) > 0
    assert list(bins.edges) == sorted(set(bins.edges))
