"""Secrets by reference: ``env:NAME`` or ``file:PATH``, never the secret itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genai_gateway.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's value, which no ``repr`` and no error shows."""

    value: str = field(default="", repr=False)

    def hide(self, text: str) -> str:
        """The text with the secret blotted out: providers like to quote keys in their errors."""
        return text.replace(self.value, "[secret]") if self.value else text


def open_secret(reference: str, environment: Mapping[str, str] = os.environ) -> Secret:
    """The secret behind a reference; none for an empty one. Raises ConfigurationError."""
    if not reference:
        return Secret()
    kind, _, place = reference.partition(":")
    if kind == "env" and place:
        return Secret(_from_environment(place, environment))
    if kind == "file" and place:
        return Secret(_from_file(Path(place)))
    raise ConfigurationError(
        "a secret is not given by reference", "Write env:NAME or file:PATH, not the secret."
    )


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise ConfigurationError(f"the environment has no {name}", f"Export {name} first.")
    return value


def _from_file(path: Path) -> str:
    try:
        value = path.read_text().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(f"the secret's file {path} cannot be read: {reason}") from None
    if not value:
        raise ConfigurationError(f"the secret's file {path} is empty")
    return value
