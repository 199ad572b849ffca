"""A view tried on rows in memory: the batch kernel, without a lake or a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.definitions import FeatureView


def test_view(
    view: FeatureView, rows: Sequence[Mapping[str, Any]], at: Any, key: Any
) -> dict[str, Any]:
    raise NotImplementedError
