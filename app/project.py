"""Projects: directories of definitions, models and resources, loaded by path.

A project's Python runs here, in the client or its own job; servers are only handed data.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from app.control.resources import Resource, make, of_definition, read_yaml
from app.errors import BadInput, DefinitionError, NotFound, TondoError
from features.definitions import Entity, FeatureService, FeatureView, RequestView, Source
from features.library import Library
from features.naming import did_you_mean

if TYPE_CHECKING:
    from training.canvas import CanvasModel

ROOMS = ("actors", "app", "configs", "features", "genai_gateway", "serving", "training")
DEFINITIONS_FILE = "definitions.py"
PROJECT_FILE = "project.yaml"
_KINDS = (Entity, FeatureService, FeatureView, RequestView, Source)
_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a path holds. ``whole`` is true of a project directory: what it lacks is not wanted."""

    project: str
    resources: tuple[Resource, ...]
    whole: bool


def load_path(path: Path) -> Loaded:
    """The resources of a project directory, a Python file or a YAML file.

    Raises NotFound, BadInput or DefinitionError with the file and line.
    """
    if path.is_dir():
        return _load_directory(path.resolve())
    if not path.exists():
        raise NotFound(f"there is nothing at {path}", "Name a project directory or a file of one.")
    if path.suffix == ".py":
        return _load_file(path.resolve(), _definitions(path.resolve()))
    if path.suffix in _YAML:
        return _load_file(path.resolve(), _read_yaml(path.resolve()))
    raise BadInput(f"{path} is neither Python nor YAML", "Name a directory, a .py or a .yaml file.")


def load_library(path: Path) -> Library:
    """The definitions of a project directory or Python file, not applied anywhere."""
    file = path / DEFINITIONS_FILE if path.is_dir() else path
    if not file.exists():
        raise NotFound(f"{path} has no {DEFINITIONS_FILE}", "Name a project directory.")
    return Library.from_definitions(_found(file.resolve()))


def load_model(path: Path) -> CanvasModel:
    """The ``MODEL`` of a model's Python file."""
    from training.canvas import CanvasModel

    model = getattr(_run(path.resolve()), "MODEL", None)
    if not isinstance(model, CanvasModel):
        raise DefinitionError(f"{path} has no MODEL", "Write MODEL = CanvasModel(…).")
    return model


def model_files(directory: Path) -> list[Path]:
    """The Python files of a project's models."""
    return sorted(directory.glob("models/*/model.py"))


def find_model(family: str, directories: Iterable[Path]) -> Path:
    """The file of the model of that family in the first of the projects that has one."""
    known = []
    for directory in directories:
        for file in model_files(directory):
            found = load_model(file).family
            if found == family:
                return file
            known.append(found)
    raise NotFound(f"there is no model {family!r}", did_you_mean(family, known, "models"))


def _load_directory(directory: Path) -> Loaded:
    _refuse_rooms(directory)
    resources = [r for file in _yaml_files(directory) for r in _read_yaml(file)]
    file = directory / DEFINITIONS_FILE
    if file.exists():
        resources += _definitions(file)
    resources += [_family(path) for path in model_files(directory)]
    if not resources:
        raise NotFound(
            f"{directory} holds no project", f"Put a {DEFINITIONS_FILE} or a {PROJECT_FILE} there."
        )
    name = _project_name(resources, directory)
    if not any(r.kind == "Project" for r in resources):
        resources.append(make("Project", name, {}))
    placed = [_placed(resource, name, directory) for resource in resources]
    return Loaded(name, tuple(unique(placed)), whole=True)


def _load_file(file: Path, resources: Sequence[Resource]) -> Loaded:
    home = next((p for p in file.parents if (p / PROJECT_FILE).exists()), None)
    name = _project_name(_read_yaml(home / PROJECT_FILE), home) if home else ""
    placed = [replace(resource, project=resource.project or name) for resource in resources]
    return Loaded(name, tuple(unique(placed)), whole=False)


def _placed(resource: Resource, project: str, directory: Path) -> Resource:
    origin = str(directory) if resource.kind == "Project" else resource.origin
    return replace(resource, project=project, origin=origin)


def _project_name(resources: Iterable[Resource], directory: Path) -> str:
    names = [r.name for r in resources if r.kind == "Project"]
    if len(names) > 1:
        raise BadInput(f"{directory} names {len(names)} projects", "Keep one kind: Project.")
    return names[0] if names else directory.name


def _yaml_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix in _YAML)


def _read_yaml(file: Path) -> list[Resource]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8: {error.reason}", "Save it as UTF-8.") from None
    return read_yaml(text, str(file))


def _definitions(file: Path) -> list[Resource]:
    library = Library.from_definitions(_found(file))
    return [of_definition(definition, str(file)) for definition in library.definitions()]


def _found(file: Path) -> list[Any]:
    found: list[Any] = []
    for value in vars(_run(file)).values():
        found += [v for v in _items(value) if isinstance(v, _KINDS) and v not in found]
    return found


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, list | tuple):
        return value
    return value.values() if isinstance(value, dict) else (value,)


def _family(file: Path) -> Resource:
    model = load_model(file)
    spec = {"service": model.service, "metric": model.metric, "owner": model.owner}
    about = {"owner": model.owner, "description": model.description, "origin": str(file)}
    return make("ModelFamily", model.family, spec, **about)


def unique(resources: Iterable[Resource]) -> list[Resource]:
    """Each resource once; raises BadInput for two different ones of one address."""
    seen: dict[str, Resource] = {}
    for resource in resources:
        known = seen.setdefault(resource.address, resource)
        if known != resource:
            raise BadInput(
                f"{resource.address} is there twice: in {known.origin} and in {resource.origin}",
                "Rename one of them.",
            )
    return list(seen.values())


def _refuse_rooms(directory: Path) -> None:
    for room in ROOMS:
        if (directory / room).is_dir() or (directory / f"{room}.py").exists():
            raise BadInput(
                f"{directory / room} has the name of a room of the platform",
                "Rename it: Python could import either of them.",
            )


def _run(file: Path) -> ModuleType:
    """Executes a file under a name of its own, so that two projects never meet."""
    name = f"_tondo_project_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.exists():
        raise NotFound(f"there is no file {file}")
    module = importlib.util.module_from_spec(spec)
    with _importable(file.parent), _taught(file):
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """Lets a file import its neighbours, last of all and only while it is loaded."""
    before, writes = set(sys.modules), sys.dont_write_bytecode
    sys.path.append(str(directory))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(directory))
        for name in set(sys.modules) - before:
            place = getattr(sys.modules[name], "__file__", None) or ""
            if place.startswith(str(directory)) and not name.startswith("_tondo_project_"):
                del sys.modules[name]


@contextmanager
def _taught(file: Path) -> Iterator[None]:
    """Turns whatever the project's code raises into its own file, line and reason."""
    try:
        yield
    except SyntaxError as error:
        line = (error.text or "").strip()
        where = f"{error.filename}:{error.lineno}" if error.lineno else str(file)
        raise DefinitionError(f"{where}: {error.msg}", line) from error
    except TondoError as error:
        where = _place(error, file)
        raise DefinitionError(f"{where}: {error.what}", error.hint) from error
    except (Exception, SystemExit) as error:
        where = _place(error, file)
        raise DefinitionError(
            f"{where}: {type(error).__name__}: {error}", "Mend this line of the project."
        ) from error


def _place(error: BaseException, file: Path) -> str:
    """The last line of the project that the error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(file.parent)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(file)
