"""What definitions check about themselves while they are being made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features.errors import DefinitionError


def set_fields(definition: Any, **fields: Any) -> None:
    """Brings fields of a frozen definition to their one stored form, while it is being made."""
    for name, value in fields.items():
        object.__setattr__(definition, name, value)


def strings(value: Sequence[str] | str) -> tuple[str, ...]:
    """One name or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def check_duration(place: str, name: str, value: Any, least: int) -> None:
    """Refuses what is not a whole number of µs of at least ``least``; None means not given."""
    if value is not None and (type(value) is not int or value < least):
        raise DefinitionError(
            f"{place}: {name}={value!r} is not a length of time", "Use hours(3), days(7), …"
        )


def check_kind(place: str, what: str, value: Any, kind: Any) -> None:
    """Refuses a value of another class."""
    if not isinstance(value, kind):
        raise DefinitionError(
            f"{place}: {what}={value!r} is a {type(value).__name__}",
            f"Give {getattr(kind, '__name__', kind)}.",
        )


def check_choice(place: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses what is not one of the choices."""
    if value not in choices:
        raise DefinitionError(f"{place}: {name}={value!r}", f"Use {' or '.join(choices)}.")
