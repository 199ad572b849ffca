"""A run for people: ``report.json`` and ``evaluation.png``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from training.evaluation import Evaluation
from training.gallery import ModelVersion
from training.package import Package
from training.plots import plot_evaluation
from training.promotion import Decision
from training.trainers.port import FittedModel

Baselines = Mapping[str, Evaluation]


def write_report(
    path: Path,
    version: ModelVersion,
    decision: Decision,
    evaluation: Evaluation,
    baselines: Baselines,
    champion: Mapping[str, float | None] | None,
    fitted: FittedModel,
    package: Package,
) -> Path:
    """Everything a run found out, as JSON."""
    data = {
        "version": version.name,
        "digest": version.digest,
        "decision": {"action": type(decision).__name__, "why": decision.why},
        "evaluation": evaluation.data(),
        "baselines": {name: found.data() for name, found in baselines.items()},
        "champion": champion,
        "training": _training(fitted),
        "runtime": _runtime(package),
        "profile": version.profile,
    }
    path.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2))
    return path


def write_plot(
    path: Path, version: ModelVersion, evaluation: Evaluation, baselines: Baselines
) -> Path | None:
    """ROC and calibration of the model beside its baselines; None for a model without classes."""
    shown = [evaluation, *baselines.values()]
    curves = [(e.curves, e.value("auc")) for e in shown if e.curves is not None]
    if not curves:
        return None
    title = f"{version.name} on the test period ({evaluation.rows['test']:,} rows)"
    return plot_evaluation(path, title, curves)


def _training(fitted: FittedModel) -> dict[str, Any]:
    return {
        "best_round": fitted.best_round,
        "seconds": fitted.seconds,
        "attempts": fitted.attempts,
        "curve": fitted.curve,
    }


def _runtime(package: Package) -> dict[str, Any]:
    parity = package.manifest.parity
    return {
        "served": parity.served,
        "largest_difference": parity.largest_difference,
        "rows_compared": parity.rows,
        "reason": parity.reason,
    }
