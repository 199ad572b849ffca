"""Benchmarks: found by name, each beside a named baseline, their reports of one shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.bench.point_in_time import _compare, made_events, made_spine
from app.bench.point_in_time import run as run_point_in_time
from app.bench.registry import bench, names, run_bench
from app.bench.report import measured, report
from app.bench.training import compare, made_job
from app.bench.training import run as run_training
from app.compose import open_platform
from app.errors import BadInput, NotFound, Unavailable
from training.trainers.xgboost import LocalTrainer

Tondo = Any


def test_every_benchmark_names_its_baseline() -> None:
    """Names come in order, and each says what it is measured beside."""
    assert names() == sorted(names())
    assert {"point-in-time", "serving", "training"} <= set(names())
    assert all(bench(name).baseline for name in names())


def test_an_unknown_benchmark_is_not_found(tondo: Tondo) -> None:
    """A wrong name is told with the nearest right one."""
    with pytest.raises(NotFound, match="point-in-tim") as error:
        run_bench(open_platform(), "point-in-tim")
    assert "point-in-time" in error.value.hint
    ran = tondo("bench", "point-in-tim")
    assert (ran.code, ran.out) == (1, "")
    assert "point-in-time" in ran.err


@pytest.mark.parametrize("name", [name for name in names() if bench(name).needs_cluster])
def test_what_needs_the_platform_says_so(name: str) -> None:
    """Without ``up`` there is an error with a hint, not a number."""
    with pytest.raises(Unavailable) as error:
        run_bench(open_platform(), name)
    assert "tondo" in error.value.hint


@pytest.mark.parametrize(
    "run", [run_point_in_time, lambda size: run_training(open_platform(), size)]
)
def test_too_little_measures_nothing(run: Any) -> None:
    """A size from which no number could be had is refused."""
    with pytest.raises(BadInput, match="measure nothing"):
        run(10)


def test_a_report_has_its_keys() -> None:
    """Name, seed, baseline, environment with versions, values, ratios."""
    found = report("x", seed=7, baseline="y", values={"a": 1}, ratios={"r": 1 / 3},
                   packages=("numpy",))  # fmt: skip
    assert list(found) == ["name", "seed", "baseline", "environment", "values", "ratios"]
    assert found["ratios"] == {"r": 0.3333}
    assert {"machine", "cpus", "memory_bytes", "python", "numpy"} <= set(found["environment"])


def test_memory_is_watched_while_work_is_done() -> None:
    """The peak holds what was taken and given back meanwhile; the result comes with it."""
    held = measured(lambda: 0)[1].peak_memory_bytes

    def work() -> int:
        return int(np.ones(30_000_000).sum())

    result, took = measured(work)
    assert result == 30_000_000
    assert took.seconds > 0
    assert took.peak_memory_bytes > held + 150_000_000


def test_made_data_is_the_same_every_time() -> None:
    """The seed decides what is measured."""
    assert made_events(2_000).equals(made_events(2_000))
    assert made_spine(500, 2_000).equals(made_spine(500, 2_000))
    assert made_spine(500, 2_000).column("n").to_pylist() == list(range(500))


@pytest.mark.parametrize(
    ("theirs", "differs"),
    [([1.0, None], False), ([1.0 + 1e-15, None], False), ([1.001, None], True), ([1.0, 0.0], True)],
)
def test_a_difference_is_an_error(theirs: list[float | None], differs: bool) -> None:
    """Values are compared, nulls with nulls; a benchmark of other answers is worth nothing."""
    ours, others = pa.array([1.0, None]), pa.chunked_array([pa.array(theirs, pa.float64())])
    if differs:
        with pytest.raises(AssertionError, match="x: 1 of 2"):
            _compare("x", ours, others)
    else:
        _compare("x", ours, others)


def test_training_is_compared_round_by_round(tmp_path: Path) -> None:
    """Any trainer can be measured: ours without Ray takes about as long as plain XGBoost."""
    found = compare(made_job(tmp_path, 2_000), LocalTrainer())
    assert set(found["ratios"]) == {"round_time_vs_plain_xgboost"}
    assert {"overhead_s", "ray_s", "plain_s", "rounds"} <= set(found["values"])
    assert found["values"]["plain_s"] > 0
