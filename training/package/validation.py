"""A trial in a child process: does the package predict what it predicted when it was made?

A crafted or damaged model file can kill the process that parses it. Here that is the child.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from features.errors import DamagedData
from training.package.package import load_package
from training.package.parity import TOLERANCE, difference
from training.package.samples import PREDICTION, rows_of

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Validation:
    """How many sample rows were predicted again, and the largest difference."""

    rows: int
    largest_difference: float


def validate_in_child(path: Path, digest: str, *, timeout: float = 120.0) -> Validation:
    """Loads a package in a child process and predicts its samples, row form and table form.

    Raises DamagedData if the child dies, hangs for ``timeout`` seconds, refuses the package or
    predicts anything else than what was recorded.
    """
    command = [sys.executable, "-m", "training.package.trial", str(path), digest]
    try:
        child = subprocess.run(
            command, env=_environment(), capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refused(path, f"it hung for {timeout:.0f} s") from None
    if child.returncode < 0:
        raise _refused(path, f"it killed its process (signal {-child.returncode})")
    if child.returncode:
        raise _refused(path, child.stderr.decode(errors="replace").strip().splitlines()[-1])
    return Validation(**orjson.loads(child.stdout))


def compare_samples(path: Path, digest: str) -> Validation:
    """Predicts the samples in this process; raises DamagedData if anything differs."""
    package = load_package(path, digest)
    samples, runtime = package.samples(), package.open_runtime()
    expected = samples.column(PREDICTION).to_numpy()
    by_row = runtime.predict(package.prepare(rows_of(package.plan, samples)))
    by_table = runtime.predict(package.prepare_table(samples))
    largest = max(difference(expected, by_row), difference(expected, by_table))
    if largest > TOLERANCE:
        raise DamagedData(f"predictions differ from those recorded by {largest:.2g}")
    return Validation(len(expected), largest)


def _environment() -> dict[str, str]:
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _refused(path: Path, why: str) -> DamagedData:
    return DamagedData(
        f"the package at {path} failed its trial: {why}",
        "It is not deployed. Train it again; if that does not help, compare library versions.",
    )
