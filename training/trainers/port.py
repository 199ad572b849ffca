"""What a trainer is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from training.progress import Report


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training: files of ``write_split``, parameters, and when to stop.

    Training stops after ``early_stopping`` rounds without a better ``metric`` on the validation
    rows (0: never). Every ``report_every`` rounds it saves a checkpoint and reports.
    """

    name: str
    train: Path
    validate: Path
    parameters: Mapping[str, Any]
    rounds: int
    early_stopping: int
    report_every: int
    seed: int
    metric: str
    threads: int = 1


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A model cut to its best round, as UBJ bytes, and how the training went.

    ``curve`` holds the validation metrics of every round. ``attempts`` is above 1 if it was resumed
    after a failure.
    """

    model: bytes
    best_round: int
    curve: Mapping[str, tuple[float, ...]]
    seconds: float
    framework: str
    framework_version: str
    attempts: int = 1


class Trainer(Protocol):
    """Runs a training job to its end, here or on a cluster."""

    def fit(self, job: TrainingJob, report: Report) -> FittedModel:
        """Trains; raises TrainingError with the reason if it cannot be done."""
        ...
