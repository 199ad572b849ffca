"""The benchmarks by name; each says which baseline it runs beside, and with which seed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from app.bench.report import Json
from app.compose import Platform
from app.errors import NotFound, Unavailable
from features.naming import did_you_mean


@dataclass(frozen=True, slots=True)
class Bench:
    """A benchmark: ``run`` takes the installation and the size of made data (None: the default)."""

    name: str
    baseline: str
    needs_cluster: bool
    run: Callable[[Platform, int | None], Json]


def names() -> list[str]:
    """The names of all benchmarks, sorted."""
    return sorted(_BENCHES)


def bench(name: str) -> Bench:
    """A benchmark by name. Raises NotFound with the nearest names."""
    if name not in _BENCHES:
        raise NotFound(
            f"there is no benchmark {name!r}", did_you_mean(name, _BENCHES, "benchmarks")
        )
    return _BENCHES[name]


def run_bench(platform: Platform, name: str, size: int | None = None) -> Json:
    """Runs a benchmark and returns its report.

    ``size`` is how many events, or rows, it makes up where it makes any. Raises NotFound for an
    unknown name, Unavailable where it needs what is not up.
    """
    return bench(name).run(platform, size)


def _point_in_time(platform: Platform, size: int | None) -> Json:
    if importlib.util.find_spec("duckdb") is None:
        raise Unavailable(
            "DuckDB, the baseline, is not installed", "Install it: pip install duckdb"
        )
    from app.bench.point_in_time import run

    return run(size)


def _serving(platform: Platform, size: int | None) -> Json:
    from app.bench.deployed import run

    return run(platform)


def _training(platform: Platform, size: int | None) -> Json:
    from app.bench.training import run

    return run(platform, size)


_BENCHES = {
    found.name: found
    for found in (
        Bench("point-in-time", "DuckDB, the same answers in SQL", False, _point_in_time),
        Bench("serving", "uvicorn with ONNX Runtime; stock Ray Serve", True, _serving),
        Bench("training", "XGBoost without Ray, the same rounds", True, _training),
    )
}
