"""What Gallery is told about a run."""

from __future__ import annotations

from collections.abc import Mapping

from training.canvas import CanvasModel
from training.dataset import Dataset, TrainingFrame
from training.evaluation import Evaluation
from training.gallery import Lineage, Metric, ModelVersion
from training.package import Package
from training.profile import profile_of
from training.provenance import CodeState, environment


def draft_of(
    model: CanvasModel,
    dataset: Dataset,
    package: Package,
    metrics: tuple[Metric, ...],
    lineage: Lineage,
    now: int,
) -> ModelVersion:
    """The version to be numbered, made at ``now`` (UTC µs)."""
    plan = dataset.plan
    return ModelVersion(
        family=model.family,
        digest=package.digest,
        service=model.service,
        metrics=metrics,
        primary_metric=model.metric,
        lineage=lineage,
        framework=package.manifest.framework,
        runtime=package.manifest.parity.served,
        inputs={
            "entities": dict(plan.key_columns),
            "request": dict(plan.request_columns),
            "features": [column.name for column in dataset.columns],
        },
        profile=profile_of(package),
        owner=model.owner,
        description=model.description,
        expires_at=None if model.expires_after is None else now + model.expires_after,
    )


def metrics_of(
    model: CanvasModel, evaluation: Evaluation, baselines: Mapping[str, Evaluation]
) -> tuple[Metric, ...]:
    """All metrics, and the primary one of each baseline as ``auc_of_SERVICE``."""
    name = model.metric
    theirs = [Metric(f"{name}_of_{k}", found.value(name)) for k, found in baselines.items()]
    return (*evaluation.metrics, *theirs)


def lineage_of(
    model: CanvasModel,
    frame: TrainingFrame,
    run_id: str,
    code: CodeState,
    parents: tuple[int, ...] = (),
) -> Lineage:
    """Code, data, features, parameters and libraries of a run."""
    return Lineage(
        run_id=run_id,
        code_digest=code.digest,
        commit=code.commit,
        dirty=code.dirty,
        parameters=model.settings(),
        training_set=str(frame.record.get("id", "")),
        snapshots=dict(frame.record.get("snapshots", {})),
        features={plan.role: plan.view.fingerprint for plan in frame.plan.views},
        parents=parents,
        environment=environment(),
    )
