"""Who may import whom, and what from outside: the table of ARCHITECTURE.md, held."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FIRST_PARTY = {"actors", "app", "features", "genai_gateway", "serving", "training"}

# Third-party packages that every module of a room may import.
ROOM_MAY = {
    "features": {"numpy", "orjson", "pyarrow"},
    "training": {"numpy", "orjson", "pyarrow"},
    "serving": {"numpy", "orjson", "pyarrow"},
    "genai_gateway": {"orjson"},
    "actors": {"numpy", "orjson", "pyarrow", "ray"},
    "app": {"click", "numpy", "orjson", "psutil", "pyarrow", "pydantic", "rich", "typer", "yaml"},
}

# Drivers and frameworks, each in the one file or folder that speaks to them.
ONLY_HERE_MAY = {
    "features/on_ray": {"ray"},
    "features/offline/iceberg": {"pyiceberg"},
    "features/online/cassandra": {"cassandra"},
    "features/online/lmdb": {"lmdb"},
    "features/online/redis": {"redis"},
    "features/stream/checkpoint": {"lmdb"},
    "features/stream/kafka/": {"confluent_kafka"},
    "features/stream/redis/": {"redis"},
    "features/redis_disk": {"redis"},
    "training/on_ray": {"ray", "xgboost"},
    "training/trainers/xgboost": {"xgboost"},
    "training/package/runtimes/": {"onnx", "onnxmltools", "onnxruntime", "skl2onnx", "xgboost"},
    "training/plots": {"matplotlib"},
    "serving/http": {"starlette"},
    "serving/on_ray": {"ray"},
    "genai_gateway/connection": {"httptools"},
    "genai_gateway/guardrails/schema": {"jsonschema"},
    "genai_gateway/minilm": {"numpy", "onnxruntime"},
    "genai_gateway/on_ray": {"ray"},
    "genai_gateway/price_data": {"genai_prices"},
    "genai_gateway/records/spans": {"opentelemetry"},
    "app/": {"httpx", "ray"},
    "app/demo": {"examples"},
    "app/demo/plain": {"xgboost"},
    "app/bench/": {"duckdb", "examples", "onnxruntime", "starlette", "uvicorn", "xgboost"},
}

IMPLEMENTATIONS = (
    "features.offline.iceberg",
    "features.online.cassandra",
    "features.online.lmdb",
    "features.online.redis",
    "features.stream.embedded",
    "features.stream.kafka",
    "features.stream.redis",
    "training.gallery.sqlite",
)


def allowed(module: Any) -> set[str]:
    """What a module may import from outside, by its room and its place."""
    own = set(ROOM_MAY[module.room])
    stem = module.path.removesuffix(".py")
    for place, packages in ONLY_HERE_MAY.items():
        if stem == place or stem.startswith(place if place.endswith("/") else f"{place}/"):
            own |= packages
    return own


def test_imports_point_one_way(root: Path) -> None:
    """The contracts of pyproject.toml hold: control plane above actors above rooms."""
    # In a process of its own: it would change the logging of this one.
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


def test_third_parties_stay_where_they_belong(modules: list[Any]) -> None:
    """A package from outside is imported only where the allow-list says so."""
    astray = [
        f"{module.path} imports {name}"
        for module in modules
        for name in {imported.split(".")[0] for imported in module.imports()}
        if name not in sys.stdlib_module_names | FIRST_PARTY | allowed(module)
    ]
    assert not astray


def test_nothing_is_pickled(all_modules: list[Any]) -> None:
    """No pickle in anything registered, served or received."""
    forbidden = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
    guilty = [
        module.path
        for module in all_modules
        if forbidden & {imported.split(".")[0] for imported in module.imports()}
    ]
    assert not guilty


def test_only_compose_chooses_implementations(modules: list[Any]) -> None:
    """Above the rooms, only app/compose.py (and a benchmark of one store) names a kind of store."""
    chosen = [
        f"{module.path} imports {name}"
        for module in modules
        if module.room in {"actors", "app", "serving"}
        and not module.path.startswith(("app/bench/", "app/compose"))
        for name in module.imports()
        if name.startswith(IMPLEMENTATIONS)
    ]
    assert not chosen


def test_the_door_of_training_is_empty(root: Path) -> None:
    """Importing training.gallery runs training/__init__.py: it must load nothing."""
    assert not (root / "training/__init__.py").read_text().strip()


@pytest.mark.parametrize(
    ("imported", "unwanted"),
    [
        ("features", ["ray", "lmdb", "pyiceberg", "xgboost", "torch"]),
        ("features.library, features.plan, features.serial", ["ray", "lmdb", "pyiceberg"]),
        ("training.gallery", ["ray", "torch", "xgboost", "matplotlib"]),
        ("training.canvas", ["ray", "torch", "xgboost", "matplotlib"]),
        ("serving.predictor, serving.http", ["ray", "torch", "xgboost", "matplotlib"]),
        ("genai_gateway.assembly, genai_gateway.http", ["ray", "torch", "numpy", "starlette"]),
        ("serving.on_ray", ["ray.train", "ray.tune", "torch", "training.trainers"]),
    ],
)
def test_a_room_loads_only_what_it_needs(root: Path, imported: str, unwanted: list[str]) -> None:
    """A fresh interpreter that imports a room has not loaded what the room does not need."""
    probe = f"import sys, {imported}; print(*[n for n in {unwanted!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
