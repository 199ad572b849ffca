"""What a replica should serve: data pushed by the control loop and kept on disk beside it.

The file lets a restarted replica come back without the control loop; its digest tells a torn or
edited file from a whole one.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from features.errors import DamagedData


@dataclass(frozen=True, slots=True)
class DesiredModel:
    """One model under its public name: the version, and the package verified by its digest."""

    name: str
    version: int
    path: str
    digest: str
    arm: str = "champion"


@dataclass(frozen=True, slots=True)
class DesiredState:
    """Everything a replica should serve; of two states the one of the higher generation is newer.

    ``services`` are feature service plans as data, served without a model.
    """

    models: tuple[DesiredModel, ...] = ()
    services: tuple[dict[str, Any], ...] = ()
    generation: int = 0

    def data(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "models": [asdict(model) for model in self.models],
            "services": list(self.services),
            "generation": self.generation,
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> DesiredState:
        """Back from data."""
        return cls(
            models=tuple(DesiredModel(**model) for model in data["models"]),
            services=tuple(data["services"]),
            generation=data["generation"],
        )


def save_state(path: Path, state: DesiredState) -> None:
    """Writes the state durably, whole or not at all."""
    data = state.data()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("wb") as file:
        file.write(orjson.dumps({"digest": _digest(data), "state": data}))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path) -> DesiredState | None:
    """The state on disk, or ``None`` if none was written; raises DamagedData if it is not whole."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        file = orjson.loads(content)
        if file["digest"] == _digest(file["state"]):
            return DesiredState.of(file["state"])
    except (ValueError, KeyError, TypeError):
        pass
    raise DamagedData(
        f"{path} is not what was written",
        "delete it: the control loop writes it again with its next push",
    )


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()
