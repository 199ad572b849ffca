"""A wrong definition fails while it is being made, with the place and a hint."""

from __future__ import annotations

import pytest

from features import Source
from features.errors import DefinitionError


def test_a_streamed_source_says_when_an_event_became_known() -> None:
    """The log writes that time into a column, which cannot be the one for when it happened."""
    for known in ({}, {"available_at": "t"}):
        with pytest.raises(DefinitionError, match="'s' is streamed") as told:
            Source("s", table="lake.s", stream="s", event_time="t", **known)
        assert "available_at=" in told.value.hint
    Source("s", table="lake.s", stream="s", event_time="t", available_at="known")
