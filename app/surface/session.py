"""What every command starts from: the installation, and things given as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import BadInput, Usage

if TYPE_CHECKING:
    from app.compose import Platform
    from features.library import Library


@dataclass(slots=True)
class _Session:
    config: Path | None = None
    platform: Platform | None = None


_current: ContextVar[_Session] = ContextVar("tondo_session")


@contextmanager
def new_session() -> Iterator[None]:
    """One run of the command line: an installation is opened at most once in it."""
    token = _current.set(_Session())
    try:
        yield
    finally:
        _current.reset(token)


def use_config(config: Path | None) -> None:
    """Notes the settings file that was named on the command line."""
    _current.get().config = config


def platform() -> Platform:
    """The installation that this command works with, opened once."""
    from app.compose import open_platform

    session = _current.get()
    if session.platform is None:
        session.platform = open_platform(session.config)
    return session.platform


def library(project: Path | None) -> Library:
    """The definitions to work with: those of a project directory, else the applied ones."""
    installation = platform()
    if project is None:
        return installation.library()
    from app.project import load_library

    return installation.with_table_schemas(load_library(project))


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """``k=v`` texts as a dictionary. Raises Usage for anything else."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Usage(f"{option} {text!r} is not a pair", f"Write {option} name=value.")
        found[name] = value
    return found


def typed_value(name: str, text: str, dtype: str) -> Any:
    """The text of an entity key or request field as the type that it is declared with."""
    try:
        return _READERS[dtype](text)
    except KeyError:
        raise BadInput(f"{name} is a {dtype}, which no command line can give") from None
    except ValueError:
        raise BadInput(f"{name}={text!r} is not of type {dtype}") from None


def _read_bool(text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise ValueError(text)


def _read_time(text: str) -> Any:
    from app.moments import read_moment

    return read_moment(text)


_READERS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": _read_bool,
    "time": _read_time,
}


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong inside is wrong with what was typed."""
    try:
        yield
    except Usage:
        raise
    except BadInput as error:
        raise Usage(error.what, error.hint) from error
