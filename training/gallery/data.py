"""Versions and alias moves as JSON-able data, for the store, the API and the actors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from features.errors import DamagedData
from training.gallery.model_version import AliasMove, Lineage, Metric, ModelVersion


def to_data(thing: ModelVersion | AliasMove) -> dict[str, Any]:
    """JSON-able data; ``from_data`` and ``move_from_data`` give the same thing back."""
    data = asdict(thing)
    if isinstance(thing, ModelVersion):
        data["metrics"] = list(data["metrics"])
        data["lineage"]["parents"] = list(thing.lineage.parents)
    return data


def from_data(data: Mapping[str, Any]) -> ModelVersion:
    """The version that ``to_data`` wrote; raises DamagedData for anything else."""
    try:
        metrics = tuple(Metric(**metric) for metric in data["metrics"])
        parents = tuple(data["lineage"]["parents"])
        lineage = Lineage(**{**data["lineage"], "parents": parents})
        return ModelVersion(**{**data, "metrics": metrics, "lineage": lineage})
    except (KeyError, TypeError) as error:
        raise DamagedData(f"this is not a stored model version: {error}") from error


def move_from_data(data: Mapping[str, Any]) -> AliasMove:
    """The alias move that ``to_data`` wrote; raises DamagedData for anything else."""
    try:
        return AliasMove(**{field.name: data[field.name] for field in fields(AliasMove)})
    except (KeyError, TypeError) as error:
        raise DamagedData(f"this is not a stored alias move: {error}") from error
