"""XGBoost on Ray Train beside plain XGBoost: what a round costs, and what starting costs.

Both train once, on the same files with the same threads. A round's time is taken between the first
and the last checkpoint that was heard of, so that starting workers and reading files do not count
in it; they do in ``overhead_s``.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
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
from training.trainers.port import Trainer, TrainingJob

SEED = 2013
ROWS = 200_000
_COLUMNS = 28
_ROUNDS, _STRETCH = 240, 20
_PARAMETERS = {"objective": "binary:logistic", "max_depth": 6, "learning_rate": 0.1}


def run(platform: Platform, size: int | None = None) -> Json:
    """Trains twice; ``size`` is the number of made rows.

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
    """The report of a trainer beside plain XGBoost."""
    ours, plain = _fitted(trainer, job), _plain(job)
    return report(
        "training",
        seed=SEED,
        baseline="XGBoost in one process on the same files, the same rounds and threads",
        values={
            "overhead_s": round(ours.seconds - plain.seconds, 3),
            "ray_s": round(ours.seconds, 3),
            "plain_s": round(plain.seconds, 3),
            "round_ms": round(1_000 * ours.round_seconds, 3),
            "plain_round_ms": round(1_000 * plain.round_seconds, 3),
            "rounds": job.rounds,
        },
        ratios={"round_time_vs_plain_xgboost": ours.round_seconds / plain.round_seconds},
        packages=("ray", "xgboost"),
    )


@dataclass(frozen=True, slots=True)
class _Trained:
    """Seconds of a whole training, and of one of its rounds."""

    seconds: float
    round_seconds: float


class _Stopwatch:
    """Notes when training was how far."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seen: list[tuple[float, int]] = []

    def note(self, rounds: int) -> None:
        """So many rounds are done; hearing it again says nothing."""
        if not self._seen or rounds > self._seen[-1][1]:
            self._seen.append((time.perf_counter(), rounds))

    def stop(self) -> _Trained:
        """The whole time, and that of a round between the first and the last note."""
        seconds = time.perf_counter() - self._started
        if len(self._seen) < 2:
            raise Unavailable(
                "too few checkpoints were heard of to time a round", "Use a greater --size."
            )
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return _Trained(seconds, (last - first) / (after - before))


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
        rounds=_ROUNDS,
        early_stopping=0,
        report_every=_STRETCH,
        seed=SEED,
        metric="auc",
    )


def _fitted(trainer: Trainer, job: TrainingJob) -> _Trained:
    watch = _Stopwatch()
    trainer.fit(job, lambda progress: watch.note(progress.done))
    return watch.stop()


def _plain(job: TrainingJob) -> _Trained:
    watch = _Stopwatch()
    matrix, label = read_split(job.train)
    train = xgboost.QuantileDMatrix(matrix, label=label, nthread=job.threads)
    matrix, label = read_split(job.validate)
    validate = xgboost.DMatrix(matrix, label=label, nthread=job.threads)
    fixed: dict[str, Any] = {"nthread": job.threads, "seed": job.seed, "eval_metric": job.metric}
    xgboost.train(
        {**job.parameters, **fixed, "tree_method": "hist"},
        train,
        num_boost_round=job.rounds,
        evals=[(validate, "validate")],
        callbacks=[_Noting(watch)],
        verbose_eval=False,
    )
    return watch.stop()


class _Noting(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    """Tells a stopwatch of every round."""

    def __init__(self, watch: _Stopwatch) -> None:
        super().__init__()
        self._watch = watch

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Notes a round; training goes on."""
        self._watch.note(epoch + 1)
        return False
