"""A run leaves a version that can be trusted, or nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from features import col, ref
from features.errors import BadInput
from features.testing import ManualClock
from training import steps
from training.artifacts import LocalArtifacts
from training.canvas import CanvasModel, Gates
from training.dataset import Dataset, TrainingFrame
from training.errors import TrainingError
from training.gallery import MemoryGallery
from training.package import Package, load_package
from training.progress import Progress, Report
from training.promotion import Hold, Promote
from training.provenance import CodeState, code_state
from training.run import RunInputs, RunPorts, RunResult, run_model
from training.steps import RunContext
from training.testing import flights_model, flights_plan, write_flights
from training.trainers.port import FittedModel, TrainingJob
from training.trainers.xgboost import LocalTrainer

CODE = CodeState("c" * 64, "abc", dirty=False)


class Runner:
    """Runs models over one frame with embedded ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = write_flights(folder / "frame.parquet", 4_000)
        record = {"id": "set-1", "snapshots": {"lake.landings": 12}}
        self.frames: Mapping[str, TrainingFrame]
        self.frames = {"late": TrainingFrame(flights_plan(), (path,), record)}
        self.seen: list[Progress] = []
        self.ports = RunPorts(
            gallery=MemoryGallery(ManualClock(5)),
            artifacts=LocalArtifacts(folder / "artifacts"),
            trainer=LocalTrainer(),
            clock=ManualClock(5),
            report=self.seen.append,
        )

    def run(self, model: CanvasModel, run_id: str, champion: Package | None = None) -> RunResult:
        plans = {"late_request_only": flights_plan("late_request_only")}
        folder = self.folder / run_id
        inputs = RunInputs(run_id, self.frames, folder, CODE, plans, champion)
        return run_model(model, inputs, self.ports)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def model() -> CanvasModel:
    return flights_model(
        4_000,
        columns={
            "mean_3h": ref("carrier_delay:mean_3h"),
            "evening": col("leg__evening"),
            "boston": col("leg__dest") == "BOS",
        },
        segments=("origin",),
        baselines=("late_request_only",),
        gates=Gates(min_primary=0.6),
        expires_after=100,
    )


@pytest.fixture(scope="module")
def result(runner: Runner, model: CanvasModel) -> RunResult:
    return runner.run(model, "first")


def test_a_run_registers_what_it_stored(runner: Runner, result: RunResult) -> None:
    """The version in Gallery names a package that the artifact store has, byte for byte."""
    version = runner.ports.gallery.get("flights.arrival_delay", result.version.version)
    package = load_package(runner.ports.artifacts.path(version.digest), version.digest)
    assert package.manifest.family == version.family
    assert version == result.version
    assert version.expires_at == 105


def test_a_version_says_where_it_comes_from(result: RunResult) -> None:
    """Run, code, data snapshots, feature fingerprints, parameters and libraries are recorded."""
    line = result.version.lineage
    assert (line.run_id, line.code_digest, line.dirty) == ("first", "c" * 64, False)
    assert line.training_set == "set-1"
    assert line.snapshots == {"lake.landings": 12}
    assert set(line.features) == {"carrier_delay"}
    assert line.parameters["max_depth"] == 3
    assert line.environment["xgboost"]
    assert result.version.inputs["request"] == {"distance": "float", "hour": "int", "dest": "str"}
    assert result.version.profile["row_us"] > 0


def test_features_beat_the_request_alone(result: RunResult) -> None:
    """Both AUCs are measured on the same test rows and recorded with the version."""
    ours = result.version.metric("auc")
    theirs = result.version.metric("auc_of_late_request_only")
    assert ours is not None
    assert theirs is not None
    assert ours > theirs + 0.05
    assert result.version.metric("auc", "test", "origin=JFK") is not None


def test_the_report_and_the_picture_are_written(result: RunResult) -> None:
    """The run leaves a JSON report and a PNG."""
    report = orjson.loads(result.report.read_bytes())
    assert report["version"] == "flights.arrival_delay:1"
    assert report["decision"]["action"] == "Promote"
    assert len(report["training"]["curve"]["auc"]) >= 10
    assert result.plot is not None
    assert result.plot.read_bytes().startswith(b"\x89PNG")


def test_progress_names_every_step(runner: Runner, result: RunResult) -> None:
    """Whoever watches is told each step in order."""
    steps_seen = list(dict.fromkeys(p.step for p in runner.seen))
    expected = ["prepare", "train", "assemble", "validate", "evaluate"]
    assert steps_seen[:7] == [*expected, "baseline late_request_only", "register"]


def test_a_candidate_is_compared_with_the_champion_on_the_same_rows(
    runner: Runner, model: CanvasModel, result: RunResult
) -> None:
    """The champion is scored on the candidate's test rows; a worse candidate is held."""
    weak = replace(model, baselines=(), rounds=1, parameters={"max_depth": 1})
    challenger = runner.run(weak, "weak", champion=result.package)
    assert challenger.champion is not None
    assert challenger.champion["auc"] == result.evaluation.value("auc")
    assert isinstance(challenger.decision, Hold)
    assert "champion" in challenger.decision.why
    assert isinstance(result.decision, Promote)


def test_a_failed_training_leaves_no_version(runner: Runner, model: CanvasModel) -> None:
    """A run that fails registers and stores nothing."""
    before = runner.ports.gallery.list()
    broken = replace(model, parameters={"eta": "fast"})
    with pytest.raises(TrainingError):
        runner.run(broken, "broken")
    assert runner.ports.gallery.list() == before


def test_a_repeated_run_is_the_same_version(runner: Runner, model: CanvasModel) -> None:
    """Running again under one run id gives the version that exists, from the same package."""
    quick = replace(model, baselines=(), rounds=2)
    first = runner.run(quick, "again")
    inputs = RunInputs("again", runner.frames, runner.folder / "elsewhere", CODE)
    assert run_model(quick, inputs, runner.ports).version == first.version


def test_a_model_may_bring_its_own_steps(runner: Runner, model: CanvasModel) -> None:
    """A step of the model's own replaces the default one."""
    called: list[str] = []

    def prepare(context: RunContext) -> Dataset:
        called.append("prepare")
        return steps.prepare(context)

    class Recorder:
        def fit(self, job: TrainingJob, report: Report) -> FittedModel:
            called.append(job.name)
            return LocalTrainer().fit(job, report)

    def train(context: RunContext, dataset: Dataset) -> FittedModel:
        return steps.train(replace(context, trainer=Recorder()), dataset)

    own = replace(model, baselines=(), rounds=2, prepare=prepare, train=train)
    runner.run(own, "own")
    assert called == ["prepare", "flights.arrival_delay-own"]


def test_a_service_without_a_frame_is_named(runner: Runner, model: CanvasModel) -> None:
    """A baseline that nobody joined is an error with a hint, before anything is trained."""
    with pytest.raises(BadInput, match="late_reqest_only"):
        runner.run(replace(model, baselines=("late_reqest_only",)), "unknown")
    assert not list((runner.folder / "unknown").iterdir())


def test_uncommitted_code_is_dirty(tmp_path: Path) -> None:
    """Code is dirty outside a repository and after any change; its digest follows its content."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.py").write_text("MODEL = 1\n")
    outside = code_state(folder)
    assert (outside.commit, outside.dirty) == ("", True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    clean = code_state(folder)
    assert (len(clean.commit), clean.dirty, clean.digest) == (40, False, outside.digest)
    (folder / "model.py").write_text("MODEL = 2\n")
    changed = code_state(folder)
    assert changed.dirty
    assert changed.digest != clean.digest
