"""Sizes, names and doors: what keeps the code easy to read."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

ROOMS = ("actors", "app", "features", "genai_gateway", "serving", "training")
FILE_LINES = 400
FUNCTION_LINES = 60
NAMELESS = {"base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}

# Longer than the limit, each for a reason. This list may only shrink.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def test_files_fit_a_few_screens(all_modules: list[Any], test_modules: list[Any]) -> None:
    """No file is longer than 400 lines, unless the list says why."""
    long = {
        module.path: lines
        for module in [*all_modules, *test_modules]
        if (lines := module.text.count("\n")) > FILE_LINES and module.path not in LONG_FILES
    }
    assert not long


def test_functions_fit_one_screen(all_modules: list[Any]) -> None:
    """No function is longer than 60 lines, unless the list says why."""
    long = [
        f"{module.path}:{function.name}"
        for module in all_modules
        for function in module.functions()
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES
    ]
    assert not [name for name in long if name not in LONG_FUNCTIONS]


def test_exceptions_are_still_needed(all_modules: list[Any]) -> None:
    """A file or function that became short enough leaves the list of exceptions."""
    lines = {module.path: module.text.count("\n") for module in all_modules}
    assert [path for path in LONG_FILES if lines.get(path, 0) <= FILE_LINES] == []
    sizes = {
        f"{module.path}:{function.name}": (function.end_lineno or 0) - function.lineno
        for module in all_modules
        for function in module.functions()
    }
    assert [name for name in LONG_FUNCTIONS if sizes.get(name, 0) < FUNCTION_LINES] == []


def test_names_say_something(all_modules: list[Any]) -> None:
    """No module or folder is called utils, common, core, helpers or manager."""
    named = {module.path: set(module.name.split(".")) for module in all_modules}
    assert [path for path, parts in named.items() if parts & NAMELESS] == []


def test_every_module_says_what_it_is_for(all_modules: list[Any]) -> None:
    """Every module that has code begins with a docstring."""
    silent = [m.path for m in all_modules if m.text.strip() and not ast.get_docstring(m.tree)]
    assert silent == []


def test_public_names_are_documented(all_modules: list[Any]) -> None:
    """Every public class, function and method says in a docstring what it promises."""
    assert [name for module in all_modules for name in _undocumented(module)] == []


def test_doors_are_sorted_and_keep_their_word(modules: list[Any]) -> None:
    """Every name in an ``__all__`` exists, and they stand in order."""
    for module in modules:
        names = _all_of(module.tree)
        if names is None:
            continue
        assert names == sorted(names, key=_shelf), module.path
        door = importlib.import_module(module.name)
        assert [name for name in names if not hasattr(door, name)] == [], module.path


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_its_furniture(root: Path, room: str) -> None:
    """A room has a door, a page about itself, and its errors."""
    missing = [
        name
        for name in ("__init__.py", "README.md", "errors.py")
        if not (root / room / name).is_file()
    ]
    assert missing == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_door(root: Path, room: str) -> None:
    """A room's ``__init__.py`` lists what it offers; only training's offers nothing."""
    door = ast.parse((root / room / "__init__.py").read_text())
    assert room == "training" or _all_of(door) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_the_page_about_a_room_is_one_screen(root: Path, room: str) -> None:
    """A room's README has at most 70 lines, and each file that it names exists."""
    text = (root / room / "README.md").read_text()
    assert text.count("\n") <= 70
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    files = [name for row in rows for name in row.split("|")[1].split("`")[1::2]]
    assert [name for name in files if not list((root / room).glob(name))] == []


def test_tests_say_what_they_promise(test_modules: list[Any]) -> None:
    """Every test has a docstring, and none sleeps."""
    silent = [
        f"{module.path}:{function.name}"
        for module in test_modules
        for function in module.functions()
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []


def test_no_unit_test_starts_ray(test_modules: list[Any]) -> None:
    """Only integration tests and scenarios import Ray or ask for the shared cluster."""
    kinds = ("tests/unit/", "tests/properties/", "tests/contracts/", "tests/architecture/")
    guilty = [
        module.path
        for module in test_modules
        if module.path.startswith(kinds)
        and ("ray" in {name.split(".")[0] for name in module.imports()} or _asks_for_ray(module))
    ]
    assert guilty == []


def test_every_folder_is_a_package(modules: list[Any]) -> None:
    """A folder without ``__init__.py`` would be invisible to the import contracts."""
    paths = {Path(module.path) for module in modules}
    assert sorted(p.as_posix() for p in paths if p.with_name("__init__.py") not in paths) == []


def test_configs_are_data(root: Path) -> None:
    """The folder of settings holds no Python."""
    assert list((root / "configs").rglob("*.py")) == []
    assert list((root / "configs").glob("*.yaml"))


def _asks_for_ray(module: Any) -> bool:
    return any(
        argument.arg == "ray_session"
        for function in module.functions()
        for argument in function.args.args
    )


def _shelf(name: str) -> tuple[int, str]:
    """Constants first, then classes, then functions, each by name: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _all_of(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[union-attr, arg-type]
    return None


def _undocumented(module: Any) -> list[str]:
    found: list[str] = []
    for node in _public(module.tree.body):
        if ast.get_docstring(node) is None:
            found.append(f"{module.path}:{node.name}")
        if isinstance(node, ast.ClassDef):
            found += [
                f"{module.path}:{node.name}.{method.name}"
                for method in _public(node.body)
                if ast.get_docstring(method) is None and not _overrides(node, method)
            ]
    return found


def _public(body: list[ast.stmt]) -> list[Any]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


def _overrides(owner: ast.ClassDef, method: Any) -> bool:
    """A method of a class with bases may have its promise in the port that it keeps."""
    return bool(owner.bases) or owner.name.startswith("_")
