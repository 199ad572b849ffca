"""XGBoost on Ray Train: checkpoints, a failure policy, and the same model after any of them."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import ray.train

from training.errors import TrainingError
from training.progress import Progress, Report, silent
from training.trainers.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from training.trainers.port import FittedModel, TrainingJob

_PROGRESS = "progress.json"
_POLL_SECONDS = 0.25
_ENVIRONMENT = {
    # A report waits for the controller's next look at its workers, 2 s apart by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.05",
    # A process of its own that takes seconds to start, of use on spot nodes only.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


class RayTrainer:
    """Implements Trainer on the Ray cluster that this process is connected to.

    ``storage`` is a path that every node sees; a run keeps its checkpoints in a folder of its name
    there. A run that is started again under its name goes on from its last checkpoint. Each of
    ``workers`` gets ``cpus`` CPUs and reads its share of the rows itself.
    """

    def __init__(
        self, storage: Path, *, workers: int = 1, cpus: int = 1, gpus: float = 0, failures: int = 3
    ) -> None:
        self._storage = storage.absolute()
        self._workers = workers
        self._resources: dict[str, float] = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
        self._failures = failures

    def fit(self, job: TrainingJob, report: Report) -> FittedModel:
        """Trains on the cluster; see Trainer."""
        from training.trainers.xgboost import finish

        started = time.perf_counter()
        folder = self._storage / job.name
        folder.mkdir(parents=True, exist_ok=True)
        with _environment(), _following(folder / _PROGRESS, report):
            result = self._trainer(job, folder).fit()
        if result.checkpoint is None:
            raise TrainingError(f"{job.name} ended without a checkpoint", f"Look into {folder}.")
        last = _restored(result.checkpoint)
        return finish(job, last, time.perf_counter() - started, attempts=_attempts(folder))

    def _trainer(self, job: TrainingJob, folder: Path) -> Any:
        return _trainer_class(self._workers)(
            _train_worker,
            train_loop_config={"job": _job_data(job), "folder": str(folder)},
            scaling_config=ray.train.ScalingConfig(
                num_workers=self._workers, resources_per_worker=self._resources
            ),
            run_config=ray.train.RunConfig(
                name=job.name,
                storage_path=str(self._storage),
                failure_config=ray.train.FailureConfig(max_failures=self._failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            ),
        )


def _trainer_class(workers: int) -> Any:
    """One worker needs no collective communication, nor the seconds that loading it takes."""
    if workers == 1:
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

        return DataParallelTrainer
    from ray.train.xgboost import XGBoostTrainer

    return XGBoostTrainer


def _train_worker(config: dict[str, Any]) -> None:
    """Runs in each worker. Ray Train's controller loads this module too, so XGBoost waits."""
    from training.trainers.xgboost import load_rows, train

    job, folder = _job(config["job"]), Path(config["folder"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    latest = ray.train.get_checkpoint()
    start = _restored(latest) if latest else Checkpoint()
    if rank == 0:
        _note_attempt(folder)
    rows = load_rows(job, rank, world)
    train(rows, job, start, lambda saved: _save(saved, job, folder, rank))


def _save(saved: Checkpoint, job: TrainingJob, folder: Path, rank: int) -> None:
    """Reports a checkpoint; the first worker's is the one that is kept."""
    numbers = saved.numbers()
    if rank != 0:
        ray.train.report(numbers)
        return
    with tempfile.TemporaryDirectory() as place:
        write_checkpoint(Path(place), saved)
        ray.train.report(numbers, checkpoint=ray.train.Checkpoint.from_directory(place))
    _write_whole(folder / _PROGRESS, [saved.rounds, job.rounds, numbers])


def _restored(checkpoint: Any) -> Checkpoint:
    with checkpoint.as_directory() as place:
        return read_checkpoint(Path(place))


def _job_data(job: TrainingJob) -> dict[str, Any]:
    data = asdict(job)
    paths = {"train": str(job.train.absolute()), "validate": str(job.validate.absolute())}
    return {**data, **paths, "parameters": dict(job.parameters)}


def _job(data: Mapping[str, Any]) -> TrainingJob:
    return TrainingJob(**{**data, "train": Path(data["train"]), "validate": Path(data["validate"])})


def _note_attempt(folder: Path) -> None:
    with (folder / "attempts").open("a") as file:
        file.write(f"{os.getpid()}\n")


def _attempts(folder: Path) -> int:
    return len((folder / "attempts").read_text().splitlines())


def _write_whole(path: Path, data: object) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps(data))
    part.replace(path)


@contextmanager
def _following(path: Path, report: Report) -> Iterator[None]:
    """Passes on what the worker writes, as long as the training runs in the foreground."""
    if report is silent:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, report, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(path: Path, report: Report, stop: threading.Event) -> None:
    seen = b""
    over = False
    while not over:
        over = stop.wait(_POLL_SECONDS)
        content = path.read_bytes() if path.exists() else b""
        if content != seen:
            seen = content
            report(Progress("train", *orjson.loads(content)))


@contextmanager
def _environment() -> Iterator[None]:
    """Ray Train takes these settings from the environment of whoever starts a training."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
