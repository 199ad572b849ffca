"""A wrong definition fails while it is being made, with the place and a hint."""

from __future__ import annotations

import pytest

from features import Entity, FeatureView, Source, approx_distinct, col
from features.errors import DefinitionError


@pytest.mark.parametrize("schema", [None, {"k": str, "x": float, "t": "time"}])
def test_what_no_engine_computes_is_refused_when_defined(schema: dict[str, object] | None) -> None:
    """Neither a plan nor a run ever meets it, also while the source's columns are not known."""
    source = Source("s", table="lake.s", event_time="t", schema=schema)
    with pytest.raises(
        DefinitionError, match="v:users: approx_distinct cannot be computed"
    ) as told:
        FeatureView("v", entity=Entity("k", key="k"), source=source,
                    features={"users": approx_distinct(col("x"))})  # fmt: skip
    assert "distinct(x)" in told.value.hint


def test_a_streamed_source_says_when_an_event_became_known() -> None:
    """The log writes that time into a column, which cannot be the one for when it happened."""
    for known in ({}, {"available_at": "t"}):
        with pytest.raises(DefinitionError, match="'s' is streamed") as told:
            Source("s", table="lake.s", stream="s", event_time="t", **known)
        assert "available_at=" in told.value.hint
    Source("s", table="lake.s", stream="s", event_time="t", available_at="known")
