"""The serving benchmark of what is deployed: the example's champion, on the running platform."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from app.bench.report import Json, environment
from app.bench.serving import Baselines, Target
from app.bench.serving import run as run_arms
from app.compose import Platform
from app.demo.replay import next_period, questions
from app.demo.stage import FAMILY, Stage
from app.errors import NotFound, Unavailable
from app.http import ask_service
from app.training_jobs import CHAMPION
from training.package import Package, load_package
from training.package.runtimes import FILES

_QUESTIONS = 200


def run(platform: Platform) -> Json:
    """Asks the deployed model; raises Unavailable or NotFound, with a hint, where none is."""
    cluster = platform.cluster()
    if cluster is None:
        raise Unavailable("serving needs the platform and a deployed model", "Run: tondo demo")
    package = _champion(platform)
    stage = Stage(platform, 1, lambda what, done, total: None)
    period = next_period(stage)
    asked = questions(stage, period, _QUESTIONS, period.start)
    path = f"/v1/models/{FAMILY}/predict"
    ask_service(platform, path, asked[0])
    key = platform.home.operator_key
    ours = Target(
        f"{cluster.http}{path}",
        [orjson.dumps(body) for body in asked],
        key.read_text().strip() if key.exists() else "",
    )
    with tempfile.TemporaryDirectory() as folder:
        made = run_arms(ours, _baselines(package, Path(folder)))
    made["baseline"] = "bare uvicorn with ONNX Runtime, and stock Ray Serve, features given"
    made["environment"] = {**environment(("ray", "onnxruntime")), **made["environment"]}
    return made


def _champion(platform: Platform) -> Package:
    with platform.gallery() as gallery:
        try:
            version = gallery.get(FAMILY, CHAMPION)
        except NotFound as error:
            raise NotFound(error.what, "Train and deploy one first: tondo demo") from None
    return load_package(platform.artifacts().path(version.digest), version.digest)


def _baselines(package: Package, folder: Path) -> Baselines:
    """The model in both forms and one row of its features; a copy, for it is converted there."""
    from training.package.runtimes.conversion import convert_to_onnx

    native, onnx = package.path / FILES["xgboost"], folder / FILES["onnx"]
    row = _first_row(package)
    convert_to_onnx(native, onnx, len(row))
    return Baselines(onnx, native, row)


def _first_row(package: Package) -> Sequence[float]:
    matrix: Any = package.prepare_table(package.samples().slice(0, 1))
    return [float(value) for value in matrix[0]]
