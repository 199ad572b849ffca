"""The same job gives the same model, interrupted or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xgboost

from features.errors import DamagedData
from training.dataset import TrainingFrame, make_dataset, read_split, write_split
from training.errors import TrainingError
from training.progress import Progress, silent
from training.testing import flights_model, flights_plan, write_flights
from training.trainers.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from training.trainers.port import TrainingJob
from training.trainers.xgboost import LocalTrainer, is_over, load_rows, train


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    folder = tmp_path_factory.mktemp("job")
    frame = TrainingFrame(flights_plan(), (write_flights(folder / "f", 2_000),), {})
    dataset = make_dataset(flights_model(2_000), frame)
    return TrainingJob(
        name="test",
        train=write_split(folder / "train", dataset.train),
        validate=write_split(folder / "validate", dataset.validate),
        parameters={"max_depth": 3, "subsample": 0.7, "colsample_bytree": 0.8},
        rounds=30,
        early_stopping=0,
        report_every=10,
        seed=3,
        metric="auc",
    )


def test_the_same_job_gives_the_same_bytes(job: TrainingJob) -> None:
    """Training twice gives one model, sampling of rows and columns included."""
    first, second = (LocalTrainer().fit(job, silent).model for _ in range(2))
    assert first == second
    assert LocalTrainer().fit(replace(job, seed=4), silent).model != first


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_depth": 3, "subsample": 0.7, "colsample_bytree": 0.8},
        {"booster": "dart", "rate_drop": 0.3},
        {"max_depth": 8, "grow_policy": "lossguide", "max_leaves": 20, "max_bin": 64},
        {"objective": "reg:absoluteerror"},
        {"tree_method": "approx"},
        {"tree_method": "exact", "scale_pos_weight": 2.0},
    ],
    ids=lambda parameters: ",".join(parameters),
)
@pytest.mark.parametrize("killed_at", [0, 10, 20])
def test_a_resumed_training_gives_the_same_bytes(
    job: TrainingJob, tmp_path: Path, killed_at: int, parameters: dict[str, object]
) -> None:
    """Stopped after any checkpoint and resumed elsewhere from its file, the model is the same."""
    job = replace(job, parameters=parameters)
    saved: list[Checkpoint] = [Checkpoint()]
    whole = train(load_rows(job), job, Checkpoint(), saved.append)
    write_checkpoint(tmp_path, saved[killed_at // 10])
    resumed = train(load_rows(job), job, read_checkpoint(tmp_path), lambda checkpoint: None)
    assert resumed == whole


def test_a_damaged_checkpoint_is_never_parsed(job: TrainingJob, tmp_path: Path) -> None:
    """A flipped byte or half a file is an error, not a crash of the library."""
    write_checkpoint(tmp_path, Checkpoint(b"model", 3, {"auc": (0.5,)}))
    (tmp_path / "model.ubj").write_bytes(b"mode")
    with pytest.raises(DamagedData):
        read_checkpoint(tmp_path)
    (tmp_path / "state.json").write_bytes(b"{")
    with pytest.raises(DamagedData):
        read_checkpoint(tmp_path)


def test_early_stopping_cuts_to_the_best_round(job: TrainingJob) -> None:
    """The model holds the trees up to its best validation round and no more."""
    greedy = replace(job, rounds=200, early_stopping=5, parameters={"max_depth": 8, "eta": 1.0})
    fitted = LocalTrainer().fit(greedy, silent)
    auc = fitted.curve["auc"]
    assert len(auc) < 200
    assert fitted.best_round == int(np.argmax(auc))
    booster = xgboost.Booster(model_file=bytearray(fitted.model))
    assert booster.num_boosted_rounds() == fitted.best_round + 1


def test_a_loss_is_better_when_it_is_smaller(job: TrainingJob) -> None:
    """Early stopping looks for the least loss and the greatest AUC."""
    curve = {"logloss": (0.6, 0.5, 0.55, 0.56), "auc": (0.6, 0.5, 0.55, 0.56)}
    checkpoint = Checkpoint(b"x", 4, curve)
    patient = replace(job, early_stopping=3)
    assert is_over(checkpoint, patient)
    assert not is_over(checkpoint, replace(patient, metric="logloss"))


def test_every_stretch_is_reported(job: TrainingJob) -> None:
    """Progress comes every ``report_every`` rounds with the newest numbers."""
    seen: list[Progress] = []
    LocalTrainer().fit(job, seen.append)
    assert [p.done for p in seen] == [10, 20, 30]
    assert set(seen[0].numbers) == {"logloss", "auc"}


def test_wrong_parameters_and_labels_are_explained(job: TrainingJob, tmp_path: Path) -> None:
    """What XGBoost refuses, a metric it does not measure, and odd labels are clear errors."""
    for parameters, what in (
        ({"eta": "fast"}, "refused: Some trailing characters"),
        ({"objective": "nope"}, "refused: Unknown objective function: `nope`"),
        ({"max_dept": 3}, 'no parameter "max_dept"'),
    ):
        with pytest.raises(TrainingError, match=what):
            LocalTrainer().fit(replace(job, parameters=parameters), silent)
    with pytest.raises(TrainingError):
        LocalTrainer().fit(replace(job, metric="beauty"), silent)
    matrix, label = read_split(job.train)
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"f{i}": column for i, column in enumerate(matrix.T)}
    pq.write_table(pa.table({**columns, "__label": label * 20}), tmp_path / "odd")
    with pytest.raises(TrainingError, match="labels 0 and 1"):
        LocalTrainer().fit(replace(job, train=tmp_path / "odd"), silent)
