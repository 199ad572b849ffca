"""The four steps of a Canvas model as they are unless the model brings its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.clock import Clock
from training.canvas import CanvasModel
from training.dataset import Dataset, TrainingFrame, make_dataset, write_split
from training.evaluation import Evaluation
from training.evaluation import evaluate as measure
from training.package import Bins, Package, PackageContent, bins_of, write_package
from training.package.columns import NUMERIC, as_floats, output_types
from training.progress import Progress, Report
from training.trainers.port import FittedModel, Trainer, TrainingJob

SAMPLES = 200


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """What a step is handed: the model, its frame, the ports, and a folder of its own."""

    model: CanvasModel
    frame: TrainingFrame
    run_id: str
    folder: Path
    trainer: Trainer
    clock: Clock
    report: Report


def prepare(context: RunContext) -> Dataset:
    """Splits the frame by time and makes the matrix of the model's columns."""
    return make_dataset(context.model, context.frame, context.model.columns)


def train(context: RunContext, dataset: Dataset) -> FittedModel:
    """Writes both splits to files and trains on them, early-stopped on the validation split."""
    model, data = context.model, context.folder / "data"
    job = TrainingJob(
        name=f"{model.family}-{context.run_id}",
        train=write_split(data / "train.parquet", dataset.train),
        validate=write_split(data / "validate.parquet", dataset.validate),
        parameters={**model.parameters, "objective": model.objective},
        rounds=model.rounds,
        early_stopping=model.early_stopping,
        report_every=model.report_every,
        seed=model.seed,
        metric=model.metric,
        threads=model.resources.cpus,
    )
    context.report(Progress("train", 0, model.rounds))
    return context.trainer.fit(job, context.report)


def assemble(context: RunContext, dataset: Dataset, fitted: FittedModel) -> Package:
    """Packages the model with samples of the test split and the baseline of the training split."""
    model = context.model
    return write_package(
        context.folder / "package",
        PackageContent(
            family=model.family,
            plan=dataset.plan,
            columns=dataset.columns,
            model=fitted.model,
            objective=model.objective,
            samples=_sampled(dataset.test.table),
            reference=_reference(dataset),
            score_rows=dataset.validate.matrix,
            primary_metric=model.metric,
            framework=fitted.framework,
            framework_version=fitted.framework_version,
        ),
    )


def evaluate(context: RunContext, dataset: Dataset, package: Package) -> Evaluation:
    """Measures every split and segment with the runtime that will serve."""
    model = context.model
    runtime = package.open_runtime()
    return measure(model.service, dataset, runtime, model.objective, model.segments)


def _sampled(table: pa.Table) -> pa.Table:
    """Rows spread evenly over the table."""
    places = np.unique(np.linspace(0, table.num_rows - 1, SAMPLES).astype(np.int64))
    return table.take(pa.array(places))


def _reference(dataset: Dataset) -> dict[str, Bins]:
    """The bins of every numeric output of the service on the training rows."""
    numeric = [name for name, dtype in output_types(dataset.plan).items() if dtype in NUMERIC]
    return {name: bins_of(as_floats(dataset.train.table.column(name))) for name in numeric}
