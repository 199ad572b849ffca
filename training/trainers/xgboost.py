"""Gradient boosting by XGBoost: deterministic, and the same model after any interruption.

XGBoost cannot save the state of its random samplers. So training goes in stretches of
``report_every`` rounds, and each begins from the saved bytes of the one before, interrupted or not:
a resumed training takes the very same steps as one that never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost

from training.dataset import read_split
from training.errors import TrainingError
from training.progress import Progress, Report
from training.trainers.checkpoint import Checkpoint
from training.trainers.port import FittedModel, TrainingJob

_RISING = frozenset({"auc", "aucpr", "map", "ndcg"})
Curve = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Training and validation rows, loaded."""

    train: xgboost.QuantileDMatrix
    validate: xgboost.DMatrix


class LocalTrainer:
    """Implements Trainer in this process."""

    def fit(self, job: TrainingJob, report: Report) -> FittedModel:
        """Trains here; see Trainer."""
        started = time.perf_counter()
        last = train(load_rows(job), job, Checkpoint(), lambda saved: report(_progress(job, saved)))
        return finish(job, last, time.perf_counter() - started)


def load_rows(job: TrainingJob, shard: int = 0, shards: int = 1) -> Rows:
    """The job's files, or one worker's share of their rows."""
    matrix, label = read_split(job.train, shard, shards)
    _check_label(job, label)
    train_rows = xgboost.QuantileDMatrix(matrix, label=label, nthread=job.threads)
    matrix, label = read_split(job.validate, shard, shards)
    return Rows(train_rows, xgboost.DMatrix(matrix, label=label, nthread=job.threads))


def train(
    rows: Rows, job: TrainingJob, start: Checkpoint, save: Callable[[Checkpoint], None]
) -> Checkpoint:
    """Trains from ``start`` to the end; ``save`` is called after every stretch."""
    current = start
    while not is_over(current, job):
        current = _stretch(rows, job, current)
        save(current)
    return current


def is_over(checkpoint: Checkpoint, job: TrainingJob) -> bool:
    """Whether all rounds are done, or the metric stopped getting better."""
    if checkpoint.rounds >= job.rounds:
        return True
    values = checkpoint.curve.get(job.metric, ())
    return bool(
        job.early_stopping and values and len(values) - 1 - _best(values, job) >= job.early_stopping
    )


def finish(job: TrainingJob, last: Checkpoint, seconds: float, attempts: int = 1) -> FittedModel:
    """The model of the best round. Raises TrainingError if there is none."""
    if not last.model:
        raise TrainingError(f"{job.name} ended without a model", "Look at the run's log.")
    best = _best(last.curve[job.metric], job) if job.early_stopping else last.rounds - 1
    booster = xgboost.Booster(model_file=bytearray(last.model))
    cut = bytes(booster[: best + 1].save_raw("ubj"))
    return FittedModel(
        cut, best, last.curve, seconds, "xgboost", xgboost.__version__, attempts=attempts
    )


def _stretch(rows: Rows, job: TrainingJob, start: Checkpoint) -> Checkpoint:
    model = bytearray(start.model) if start.model else None
    try:
        booster = xgboost.Booster(
            _parameters(job, start.rounds), [rows.train, rows.validate], model_file=model
        )
        end = min(start.rounds + job.report_every, job.rounds)
        measured = [_round(booster, rows, number) for number in range(start.rounds, end)]
    except xgboost.core.XGBoostError as error:
        raise TrainingError(
            f"{job.name}: XGBoost refused: {str(error).splitlines()[-1].strip()}",
            "Check the model's parameters.",
        ) from error
    return Checkpoint(bytes(booster.save_raw("ubj")), end, _extended(start.curve, measured, job))


def _round(booster: xgboost.Booster, rows: Rows, number: int) -> dict[str, float]:
    booster.update(rows.train, number)
    line = booster.eval_set([(rows.validate, "v")], number)
    pairs = (part.rsplit(":", 1) for part in line.split("\t")[1:])
    return {name.removeprefix("v-"): float(value) for name, value in pairs}


def _extended(curve: Curve, measured: Sequence[Mapping[str, float]], job: TrainingJob) -> Curve:
    if job.metric not in measured[0]:
        raise TrainingError(
            f"{job.name}: XGBoost does not measure {job.metric!r}",
            f"Add it to eval_metric; measured are {', '.join(measured[0])}.",
        )
    return {name: (*curve.get(name, ()), *(m[name] for m in measured)) for name in measured[0]}


def _best(values: Sequence[float], job: TrainingJob) -> int:
    """The first round with the best value."""
    return int(np.argmax(values) if job.metric in _RISING else np.argmin(values))


def _parameters(job: TrainingJob, first_round: int) -> dict[str, Any]:
    defaults = {"objective": "binary:logistic", "tree_method": "hist", "verbosity": 1}
    fixed = {
        "nthread": job.threads,
        "seed": job.seed + first_round,
        "seed_per_iteration": True,
        "eval_metric": _metrics(job),
    }
    return {**defaults, **job.parameters, **fixed}


def _metrics(job: TrainingJob) -> list[str]:
    asked = job.parameters.get("eval_metric", ("logloss",) if job.metric == "auc" else ())
    listed = [asked] if isinstance(asked, str) else list(asked)
    return list(dict.fromkeys([*listed, job.metric]))


def _progress(job: TrainingJob, saved: Checkpoint) -> Progress:
    return Progress("train", saved.rounds, job.rounds, saved.numbers())


def _check_label(job: TrainingJob, label: np.ndarray[Any, Any]) -> None:
    objective = str(job.parameters.get("objective", "binary:logistic"))
    if objective.startswith("binary:") and not np.isin(label, (0, 1)).all():
        raise TrainingError(
            f"{job.name}: {objective} wants labels 0 and 1",
            "Make the label a comparison, e.g. col('arr_delay') > 15.",
        )
