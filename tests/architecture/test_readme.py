"""Every command in the README is run by a test: the tour as it stands, the rest where said here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TOUR = "tests/scenarios/test_app_readme_tour.py::test_the_tour_runs_as_it_stands"

# Commands outside the tour, and the test that runs each.
RUN_BY = {
    "make demo": "tests/architecture/test_repository.py::test_make_runs_what_it_says",
    "make test": "tests/architecture/test_repository.py::test_make_runs_what_it_says",
}


def test_every_command_is_run_by_a_test(root: Path) -> None:
    """Commands stand in the tour, or the table above names the test that runs them."""
    shown = _blocks(root, "console")
    assert set(shown) == set(RUN_BY)
    assert all(_exists(root, test) for test in RUN_BY.values())


def test_the_tour_is_run_by_a_test(root: Path) -> None:
    """There is a tour, and a scenario that runs it."""
    assert _blocks(root, "sh")
    assert _exists(root, TOUR)


def _blocks(root: Path, language: str) -> list[str]:
    """The commands in the README's blocks of a language, line by line."""
    text = (root / "README.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def _exists(root: Path, test: str) -> bool:
    path, name = test.split("::")
    if not (root / path).is_file():
        return False
    tree = ast.parse((root / path).read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)
