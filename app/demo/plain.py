"""Plain XGBoost on the files of a run, as anybody would write it: the baseline of its time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import xgboost

from training.canvas import CanvasModel
from training.dataset import read_split


@dataclass(frozen=True, slots=True)
class Plain:
    """How long it took, reading included, how many rounds it kept, and its validation AUC."""

    seconds: float
    rounds: int
    auc: float


def train_plainly(model: CanvasModel, data: Path) -> Plain:
    """Trains on ``train.parquet`` and stops early on ``validate.parquet`` of a folder."""
    started, threads = time.perf_counter(), model.resources.cpus
    matrix, label = read_split(data / "train.parquet")
    train = xgboost.QuantileDMatrix(matrix, label=label, nthread=threads)
    matrix, label = read_split(data / "validate.parquet")
    validate = xgboost.DMatrix(matrix, label=label, nthread=threads)
    fixed = {"nthread": threads, "seed": model.seed, "eval_metric": "auc", "tree_method": "hist"}
    booster = xgboost.train(
        {"objective": model.objective, **model.parameters, **fixed},
        train,
        num_boost_round=model.rounds,
        evals=[(validate, "validate")],
        early_stopping_rounds=model.early_stopping or None,
        verbose_eval=False,
    )
    seconds = time.perf_counter() - started
    return Plain(seconds, booster.best_iteration + 1, float(booster.best_score))
