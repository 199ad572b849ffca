"""Putting a package together: native file, ONNX if it is exact, samples, baseline, manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa

from features.errors import Conflict
from features.plan import ServicePlan
from training.package.baseline import Baseline, Bins, bins_of
from training.package.columns import Matrix, MatrixColumn, compile_table
from training.package.digest import tree_digest
from training.package.manifest import Manifest, Parity
from training.package.package import BASELINE, MANIFEST, Package, load_package
from training.package.parity import decide_parity
from training.package.runtimes import FILES, open_runtime
from training.package.samples import outputs_of, write_samples


@dataclass(frozen=True, slots=True, eq=False)
class PackageContent:
    """What a package is made of.

    ``model`` is the native file (UBJ), cut to its best round and without feature names.
    ``samples`` has the service's output columns; each row gets its prediction. ``reference`` are
    the bins of the training rows, ``score_rows`` a matrix that the model did not learn from, whose
    scores are the reference of the score.
    """

    family: str
    plan: ServicePlan
    columns: tuple[MatrixColumn, ...]
    model: bytes
    objective: str
    samples: pa.Table
    reference: Mapping[str, Bins]
    score_rows: Matrix
    primary_metric: str
    framework: str = "xgboost"
    framework_version: str = ""


def write_package(folder: Path, content: PackageContent) -> Package:
    """Writes a package into a new folder and loads it back. Raises Conflict if the folder exists.

    The runtime it will be served with is chosen here, by the parity gate.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise Conflict(
            f"{folder} exists", "Write every package into a folder of its own."
        ) from None
    (folder / FILES["xgboost"]).write_bytes(content.model)
    outputs = outputs_of(content.plan, content.samples)
    matrix = compile_table(content.plan, content.columns)(outputs)
    parity = decide_parity(folder, matrix)
    runtime = open_runtime(parity.served, folder)
    write_samples(folder, outputs, runtime.predict(matrix).tolist())
    baseline = Baseline(content.reference, bins_of(runtime.predict(content.score_rows)))
    (folder / BASELINE).write_bytes(orjson.dumps(baseline.data()))
    (folder / MANIFEST).write_bytes(orjson.dumps(_manifest(content, parity).data()))
    return load_package(folder, tree_digest(folder))


def _manifest(content: PackageContent, parity: Parity) -> Manifest:
    return Manifest(
        family=content.family,
        plan=content.plan,
        columns=content.columns,
        framework=content.framework,
        framework_version=content.framework_version,
        objective=content.objective,
        output="probability" if content.objective == "binary:logistic" else "value",
        parity=parity,
        primary_metric=content.primary_metric,
    )
