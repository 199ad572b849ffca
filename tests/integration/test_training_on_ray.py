"""Training on Ray Train is training, wherever it runs and whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from training.dataset import TrainingFrame, make_dataset, write_split
from training.on_ray import RayTrainer
from training.progress import Progress, silent
from training.testing import flights_model, flights_plan, write_flights
from training.trainers.port import FittedModel, TrainingJob
from training.trainers.xgboost import LocalTrainer

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    folder = tmp_path_factory.mktemp("job")
    frame = TrainingFrame(flights_plan(), (write_flights(folder / "f", 3_000),), {})
    dataset = make_dataset(flights_model(3_000), frame)
    return TrainingJob(
        name="flights.arrival_delay-test",
        train=write_split(folder / "train", dataset.train),
        validate=write_split(folder / "validate", dataset.validate),
        parameters={"max_depth": 3, "subsample": 0.7},
        rounds=40,
        early_stopping=0,
        report_every=4,
        seed=3,
        metric="auc",
    )


@pytest.fixture(scope="module")
def local(job: TrainingJob) -> FittedModel:
    return LocalTrainer().fit(job, silent)


def test_a_killed_worker_changes_nothing_but_the_time(
    job: TrainingJob, local: FittedModel, tmp_path: Path
) -> None:
    """After kill -9 of the worker the training resumes by itself and ends in the same bytes."""
    killed: list[int] = []

    def kill_once(progress: Progress) -> None:
        if not killed and progress.done < job.rounds:
            killed.append(int((tmp_path / job.name / "attempts").read_text().split()[-1]))
            os.kill(killed[0], signal.SIGKILL)

    fitted = RayTrainer(tmp_path).fit(job, kill_once)
    assert killed
    assert fitted.attempts == 2
    assert fitted.model == local.model
    assert fitted.curve == local.curve


def test_a_run_started_again_goes_on_from_its_checkpoint(
    job: TrainingJob, local: FittedModel, tmp_path: Path
) -> None:
    """A run whose driver went away is started again under its name and ends in the same bytes."""
    RayTrainer(tmp_path).fit(replace(job, rounds=20), silent)
    seen: list[int] = []
    fitted = RayTrainer(tmp_path).fit(job, lambda progress: seen.append(progress.done))
    assert fitted.model == local.model
    assert min(seen) >= 20


def test_workers_share_the_rows(job: TrainingJob, local: FittedModel, tmp_path: Path) -> None:
    """Two workers with half of the rows each make a model that is as good."""
    fitted = RayTrainer(tmp_path, workers=2).fit(replace(job, rounds=12, report_every=6), silent)
    assert fitted.curve["auc"][-1] == pytest.approx(local.curve["auc"][11], abs=0.03)
