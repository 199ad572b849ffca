"""A training between two stretches, in memory and as a folder. Loads no ML library."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from features.errors import DamagedData

_MODEL, _STATE = "model.ubj", "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The model so far (UBJ bytes) and the validation metrics of every round."""

    model: bytes = b""
    rounds: int = 0
    curve: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """The newest validation metrics."""
        return {name: values[-1] for name, values in self.curve.items()}


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes it into a folder that exists."""
    digest = hashlib.sha256(checkpoint.model).hexdigest()
    state = {"rounds": checkpoint.rounds, "curve": checkpoint.curve, "digest": digest}
    (folder / _MODEL).write_bytes(checkpoint.model)
    (folder / _STATE).write_bytes(orjson.dumps(state))


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint of a folder, verified: a parser can crash on damaged bytes.

    Raises DamagedData if it is not what was written.
    """
    try:
        model = (folder / _MODEL).read_bytes()
        state = orjson.loads((folder / _STATE).read_bytes())
        whole = hashlib.sha256(model).hexdigest() == state["digest"]
        curve = {name: tuple(values) for name, values in state["curve"].items()}
        rounds = int(state["rounds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedData(f"the checkpoint {folder} cannot be read: {error}") from error
    if not whole:
        raise DamagedData(f"the checkpoint {folder} is not what was written", "Start a new run.")
    return Checkpoint(model, rounds, curve)
