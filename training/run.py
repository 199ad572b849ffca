"""One run of a Canvas model: prepare, train, assemble, evaluate, decide, register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from features.clock import Clock
from features.plan import ServicePlan
from training import steps
from training.artifacts import ArtifactStore
from training.canvas import CanvasModel
from training.comparison import evaluate_baseline, frame_of, measure_champion
from training.dataset import Dataset, TrainingFrame
from training.evaluation import Evaluation
from training.gallery import Gallery, ModelVersion
from training.package import Package, validate_in_child
from training.progress import Progress, Report, silent
from training.promotion import Decision, decide
from training.provenance import CodeState
from training.registration import draft_of, lineage_of, metrics_of
from training.report import write_plot, write_report
from training.steps import RunContext
from training.trainers.port import FittedModel, Trainer


@dataclass(frozen=True, slots=True, eq=False)
class RunPorts:
    """What a run works with; ``app`` chooses the implementations.

    A job gives the same model in any trainer, so ``baseline_trainer`` may be a nearer one that
    spares each baseline the start of a cluster job; without it ``trainer`` trains them too.
    """

    gallery: Gallery
    artifacts: ArtifactStore
    trainer: Trainer
    clock: Clock
    report: Report = silent
    baseline_trainer: Trainer | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunInputs:
    """What a run is about: frames by service, a folder of its own, code, and the champion.

    A baseline without a frame uses another that holds its columns: then ``plans`` has its plan.
    ``champion`` is the package in use; ``parents`` are the versions that this one follows.
    """

    run_id: str
    frames: Mapping[str, TrainingFrame]
    folder: Path
    code: CodeState
    plans: Mapping[str, ServicePlan] = field(default_factory=dict)
    champion: Package | None = None
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """A registered version, what it is worth, whether it may be promoted, and where to read it.

    ``champion`` are the champion's metrics on the same test rows, None if there was none to ask.
    """

    version: ModelVersion
    decision: Decision
    evaluation: Evaluation
    baselines: Mapping[str, Evaluation]
    champion: Mapping[str, float | None] | None
    fitted: FittedModel
    package: Package
    report: Path
    plot: Path | None


def run_model(model: CanvasModel, inputs: RunInputs, ports: RunPorts) -> RunResult:
    """Makes a version and registers it. Promotes nothing: the decision is in the result.

    The package is tried in a child process and stored before Gallery hears of it.
    """
    context = _context(model, inputs, ports)
    others = {name: frame_of(name, inputs.frames, inputs.plans) for name in model.baselines}
    dataset, fitted, package = _make(context)
    context.report(Progress("evaluate"))
    evaluation = (model.evaluate or steps.evaluate)(context, dataset, package)
    near = replace(context, trainer=ports.baseline_trainer or ports.trainer)
    baselines = {name: evaluate_baseline(near, name, frame) for name, frame in others.items()}
    champion = measure_champion(model, context.frame, inputs.champion)
    decision = decide(evaluation.numbers(), champion, model.gates, model.metric)
    context.report(Progress("register"))
    lineage = lineage_of(model, context.frame, inputs.run_id, inputs.code, inputs.parents)
    metrics = metrics_of(model, evaluation, baselines)
    draft = draft_of(model, dataset, package, metrics, lineage, ports.clock.now())
    version = ports.gallery.create(replace(draft, digest=ports.artifacts.put(package.path)))
    report = write_report(
        inputs.folder / "report.json",
        version,
        decision,
        evaluation,
        baselines,
        champion,
        fitted,
        package,
    )
    plot = write_plot(inputs.folder / "evaluation.png", version, evaluation, baselines)
    return RunResult(
        version, decision, evaluation, baselines, champion, fitted, package, report, plot
    )


def _context(model: CanvasModel, inputs: RunInputs, ports: RunPorts) -> RunContext:
    inputs.folder.mkdir(parents=True, exist_ok=True)
    return RunContext(
        model=model,
        frame=frame_of(model.service, inputs.frames, inputs.plans),
        run_id=inputs.run_id,
        folder=inputs.folder,
        trainer=ports.trainer,
        clock=ports.clock,
        report=ports.report,
    )


def _make(context: RunContext) -> tuple[Dataset, FittedModel, Package]:
    model = context.model
    context.report(Progress("prepare"))
    dataset = (model.prepare or steps.prepare)(context)
    fitted = (model.train or steps.train)(context, dataset)
    context.report(Progress("assemble"))
    package = (model.assemble or steps.assemble)(context, dataset, fitted)
    context.report(Progress("validate"))
    validate_in_child(package.path, package.digest)
    return dataset, fitted, package
