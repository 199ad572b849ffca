"""XGBoost on Ray Train beside plain XGBoost: what a round costs, and what starting costs.

Both train on the same files with the same threads. A round's time is the difference of a long and
a short training, so that starting workers and reading files does not count; what does is
``overhead_s``, of the long one.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost

from app.bench.report import Json, report
from app.compose import Platform
from app.errors import BadInput, Unavailable
from app.lifecycle.cluster import connect
from training.dataset import Split, read_split, write_split
from training.progress import silent
from training.trainers.port import Trainer, TrainingJob

SEED = 2013
ROWS = 200_000
_COLUMNS = 28
_ROUNDS = (40, 240)
_PARAMETERS = {"objective": "binary:logistic", "max_depth": 6, "learning_rate": 0.1}


def run(platform: Platform, size: int | None = None) -> Json:
    """Trains four times; ``size`` is the number of made rows.

    Raises Unavailable if the platform is not up, BadInput below 1,000 rows.
    """
    cluster, rows = platform.cluster(), ROWS if size is None else size
    if rows < 1_000:
        raise BadInput(f"{rows} rows measure nothing", "Use --size 1000 or more.")
    if cluster is None:
        raise Unavailable("Ray Train needs the platform", "Start it: tondo up")
    from training.on_ray import RayTrainer

    connect(cluster)
    root = platform.home.training / "bench"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        job = made_job(Path(folder), rows)
        return compare(job, RayTrainer(Path(folder) / "runs"))


def compare(job: TrainingJob, trainer: Trainer) -> Json:
    """The report of a trainer beside plain XGBoost, each with few rounds and with many."""
    ours = [_fitted(trainer, job, rounds) for rounds in _ROUNDS]
    plain = [_plain(job, rounds) for rounds in _ROUNDS]
    more = _ROUNDS[1] - _ROUNDS[0]
    rounds = [(seconds[1] - seconds[0]) / more for seconds in (ours, plain)]
    return report(
        "training",
        seed=SEED,
        baseline="XGBoost in one process on the same files, the same rounds and threads",
        values={
            "overhead_s": round(ours[1] - plain[1], 3),
            "ray_s": round(ours[1], 3),
            "plain_s": round(plain[1], 3),
            "round_ms": round(1_000 * rounds[0], 3),
            "plain_round_ms": round(1_000 * rounds[1], 3),
            "rounds": _ROUNDS[1],
        },
        ratios={"round_time_vs_plain_xgboost": rounds[0] / rounds[1]},
        packages=("ray", "xgboost"),
    )


def made_job(folder: Path, rows: int) -> TrainingJob:
    """A problem that some columns answer, as the files that a trainer reads."""
    random = np.random.default_rng(SEED)
    paths = {}
    for name, size in (("train", rows), ("validate", rows // 5)):
        matrix = random.normal(size=(size, _COLUMNS)).astype(np.float32)
        score = matrix[:, 0] + matrix[:, 1] * matrix[:, 2] + random.normal(size=size)
        split = Split(pa.table({}), matrix, (score > 0).astype(np.float64))
        paths[name] = write_split(folder / f"{name}.parquet", split)
    return TrainingJob(
        name="bench",
        train=paths["train"],
        validate=paths["validate"],
        parameters=_PARAMETERS,
        rounds=_ROUNDS[1],
        early_stopping=0,
        report_every=40,
        seed=SEED,
        metric="auc",
    )


def _fitted(trainer: Trainer, job: TrainingJob, rounds: int) -> float:
    started = time.perf_counter()
    trainer.fit(replace(job, name=f"bench-{rounds}", rounds=rounds), silent)
    return time.perf_counter() - started


def _plain(job: TrainingJob, rounds: int) -> float:
    started = time.perf_counter()
    matrix, label = read_split(job.train)
    train = xgboost.QuantileDMatrix(matrix, label=label, nthread=job.threads)
    matrix, label = read_split(job.validate)
    validate = xgboost.DMatrix(matrix, label=label, nthread=job.threads)
    fixed: dict[str, Any] = {"nthread": job.threads, "seed": job.seed, "eval_metric": job.metric}
    xgboost.train(
        {**job.parameters, **fixed, "tree_method": "hist"},
        train,
        num_boost_round=rounds,
        evals=[(validate, "validate")],
        verbose_eval=False,
    )
    return time.perf_counter() - started
