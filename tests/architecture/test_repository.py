"""The furniture: lock file, cluster file, README, Makefile and decisions say what is true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")


def test_the_lock_names_no_index(root: Path) -> None:
    """The lock file pins and hashes, and says nothing about where packages come from."""
    text = (root / "requirements.lock").read_text()
    assert re.search(r"https?://|--(extra-)?index-url|--find-links|@ file", text) is None


def test_everything_in_the_lock_is_pinned_and_hashed(root: Path) -> None:
    """Each package in the lock has one version and at least one hash."""
    joined = (root / "requirements.lock").read_text().replace("\\\n", " ")
    packages = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    assert packages
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []


def test_the_lock_holds_what_the_project_asks_for(root: Path) -> None:
    """Every dependency of pyproject.toml stands in the lock with the same version."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lock = (root / "requirements.lock").read_text().lower().replace("_", "-")
    pins = [re.sub(r"\[[^]]*\]", "", name).lower().replace("_", "-") for name in wanted]
    assert [pin for pin in pins if f"\n{pin} " not in f"\n{lock}"] == []


def test_the_cluster_file_satisfies_ray(root: Path) -> None:
    """cluster.yaml is valid by the schema that Ray itself ships."""
    import importlib.util

    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = json.loads(
        Path(found.origin).with_name("autoscaler").joinpath("ray-schema.json").read_text()
    )
    jsonschema.validate(yaml.safe_load((root / "cluster.yaml").read_text()), schema)


def test_the_cluster_has_every_kind_of_node(root: Path) -> None:
    """There are CPU, GPU and spot nodes, and no worker kind may outgrow the cluster."""
    cluster = yaml.safe_load((root / "cluster.yaml").read_text())
    kinds = cluster["available_node_types"]
    assert cluster["head_node_type"] in kinds
    assert any("GPU" in kind["resources"] for kind in kinds.values())
    assert any("spot" in name for name in kinds)
    assert all(kind.get("max_workers", 0) <= cluster["max_workers"] for kind in kinds.values())


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_node_starts_with_the_serving_flags(root: Path, commands: str) -> None:
    """The start commands export what serving wants, value by value, before Ray starts."""
    from serving.on_ray import serve_environment

    cluster = yaml.safe_load((root / "cluster.yaml").read_text())
    exports, started = cluster[commands][-1].split("exec ray start")
    flags = exports[exports.index("export ") :]
    assert started
    assert _exported_by(flags) == serve_environment("/var/tmp/tondo")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(root: Path, page: str) -> None:
    """Every file that a page links to or lists exists."""
    text = (root / page).read_text()
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    listed = re.findall(r"^\| `([\w./-]+)` \|", text, flags=re.MULTILINE)
    assert [name for name in [*links, *listed] if not (root / name).exists()] == []


def test_decisions_are_numbered_and_whole(root: Path) -> None:
    """Each decision says its context, what was decided, given up, and how it would be wrong."""
    pages = sorted((root / "docs/decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    headings = ("## Context", "## Decision", "## What we gave up", "## How we would know")
    for page in pages:
        assert [heading for heading in headings if heading not in page.read_text()] == [], page.name


def test_make_lists_every_target(root: Path) -> None:
    """`make` alone shows each target with a word about it."""
    makefile = (root / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert targets is not None
    shown = _run(["make", "--no-print-directory"], root)
    assert [name for name in targets[1].split() if f"make {name} " not in shown] == []


@pytest.mark.parametrize(
    ("target", "runs"),
    [("demo", "tondo demo"), ("test", "pytest"), ("bench", "tondo bench"), ("check", "mypy")],
)
def test_make_runs_what_it_says(root: Path, target: str, runs: str) -> None:
    """A target of the Makefile ends in the command that the README promises."""
    assert runs in _run(["make", "--no-print-directory", "-n", target], root)


def test_ci_is_a_shell_script_without_mistakes(root: Path) -> None:
    """.ci/run parses, may be executed, and stops at the first error."""
    script = root / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    _run(["bash", "-n", str(script)], root)


def test_the_licence_is_the_one_declared(root: Path) -> None:
    """LICENSE has the full text of the licence that pyproject.toml names."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    text = (root / "LICENSE").read_text()
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def _exported_by(script: str) -> dict[str, str]:
    """What a shell has in its environment after these lines."""
    probe = ["env", "-i", "bash", "-c", f"{script}\nenv -0"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=True)
    pairs = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)
    return {name: value for name, value in pairs.items() if name.startswith("RAY_")}


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout
