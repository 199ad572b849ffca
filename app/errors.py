"""Errors of the control plane and the command line."""

from __future__ import annotations

from features.errors import (
    BadInput,
    Conflict,
    DamagedData,
    DefinitionError,
    NotFound,
    TondoError,
    Unavailable,
)


class AppError(TondoError):
    """Base of the control plane's own errors."""


class Usage(AppError):
    """The command was asked for in a way that cannot be understood."""


class SettingsError(AppError):
    """A setting is unknown or has a value that it cannot have."""


__all__ = [
    "AppError",
    "BadInput",
    "Conflict",
    "DamagedData",
    "DefinitionError",
    "NotFound",
    "SettingsError",
    "TondoError",
    "Unavailable",
    "Usage",
]
