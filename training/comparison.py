"""What a candidate is compared with, on the very same test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from features.errors import BadInput
from features.naming import did_you_mean
from features.plan import ServicePlan
from training import steps
from training.canvas import CanvasModel
from training.dataset import TrainingFrame, make_dataset
from training.evaluation import Evaluation, measure_split
from training.package import Package
from training.progress import Progress
from training.steps import RunContext


def frame_of(
    service: str, frames: Mapping[str, TrainingFrame], plans: Mapping[str, ServicePlan]
) -> TrainingFrame:
    """The frame of a service: its own, or another that holds all of its columns.

    Raises BadInput if there is neither.
    """
    if service in frames:
        return frames[service]
    if service not in plans:
        raise BadInput(
            f"the run has no training frame for service {service!r}",
            did_you_mean(service, [*frames, *plans], "services"),
        )
    for frame in frames.values():
        if _holds(frame, plans[service]):
            return replace(frame, plan=plans[service])
    raise BadInput(
        f"no training frame holds the columns of service {service!r}", "Join it as well."
    )


def evaluate_baseline(context: RunContext, service: str, frame: TrainingFrame) -> Evaluation:
    """Trains the same model on another service, measures it, and registers nothing."""
    context.report(Progress(f"baseline {service}"))
    twin = replace(
        context.model,
        service=service,
        columns=None,
        segments=(),
    )
    folder = context.folder / "baselines" / service
    folder.mkdir(parents=True, exist_ok=True)
    run_id = f"{context.run_id}-{service}"
    theirs = replace(context, model=twin, frame=frame, folder=folder, run_id=run_id)
    dataset = steps.prepare(theirs)
    package = steps.assemble(theirs, dataset, steps.train(theirs, dataset))
    return steps.evaluate(theirs, dataset, package)


def measure_champion(
    model: CanvasModel, frame: TrainingFrame, champion: Package | None
) -> dict[str, float | None] | None:
    """The champion's metrics on the candidate's test rows; None if the frame cannot feed it."""
    if champion is None or not _holds(frame, champion.plan):
        return None
    columns = {column.name: column.expr for column in champion.manifest.columns}
    test = make_dataset(model, replace(frame, plan=champion.plan), columns).test
    score = champion.open_runtime().predict(test.matrix)
    return measure_split(test, score, model.objective)


def _holds(frame: TrainingFrame, plan: ServicePlan) -> bool:
    known = {(output.column, output.dtype) for output in frame.plan.outputs}
    return {(output.column, output.dtype) for output in plan.outputs} <= known
