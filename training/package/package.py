"""A package: everything needed to answer with a model, as files that cannot change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from features.errors import DamagedData, NotFound
from features.plan import ServicePlan
from training.package.baseline import Baseline, baseline_of
from training.package.columns import Matrix, PrepareRows, PrepareTable, compile_rows, compile_table
from training.package.digest import tree_digest
from training.package.manifest import Manifest, manifest_of
from training.package.runtimes import Runtime, open_runtime
from training.package.samples import read_samples

MANIFEST = "manifest.json"
BASELINE = "baseline.json"


@dataclass(frozen=True, slots=True, eq=False)
class Package:
    """A verified package, its service plan and matrix columns compiled.

    ``prepare`` makes the float32 matrix of rows of service outputs, given in ``plan.outputs``
    order; ``prepare_table`` makes the same of a table.
    """

    path: Path
    digest: str
    manifest: Manifest
    prepare: PrepareRows
    prepare_table: PrepareTable

    @property
    def plan(self) -> ServicePlan:
        """The compiled service that the model reads."""
        return self.manifest.plan

    def open_runtime(self) -> Runtime:
        """Loads the model with the runtime that the parity gate chose."""
        return open_runtime(self.manifest.parity.served, self.path)

    def samples(self) -> pa.Table:
        """Rows of service outputs with the ``prediction`` they got when they were packaged."""
        return read_samples(self.path)

    def baseline(self) -> Baseline:
        """The histograms of the training reference."""
        return baseline_of(read_json(self.path / BASELINE))

    def warm(self, runtime: Runtime) -> Matrix:
        """Scores one empty row, so that the first request does not pay for the first call."""
        row = self.prepare([(None,) * len(self.plan.outputs)])
        runtime.predict(row)
        return row


def load_package(path: Path, expect_digest: str) -> Package:
    """The package at ``path``, its digest verified before any parser sees a byte of it.

    Raises NotFound, or DamagedData if a byte differs from what was registered.
    """
    if not path.is_dir():
        raise NotFound(f"there is no package at {path}", "Was the artifact store moved or cleaned?")
    found = tree_digest(path)
    if found != expect_digest:
        raise DamagedData(
            f"the package at {path} is not the one that was registered "
            f"(digest {found[:12]}…, expected {expect_digest[:12]}…)",
            "Restore it from a backup or train again: nothing of it was loaded.",
        )
    return _opened(path, found)


def _opened(path: Path, digest: str) -> Package:
    manifest = manifest_of(read_json(path / MANIFEST))
    rows = compile_rows(manifest.plan, manifest.columns)
    table = compile_table(manifest.plan, manifest.columns)
    return Package(path, digest, manifest, rows, table)


def read_json(path: Path) -> Any:
    """A JSON file's data; raises DamagedData if it is not there or not JSON."""
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DamagedData(f"{path.name} of the package cannot be read: {error}") from error
