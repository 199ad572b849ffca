"""Errors that say what happened, why, and what to do about it."""

from __future__ import annotations


class TondoError(Exception):
    """Base of every error this platform raises on purpose.

    The constructor arguments equal ``args``, so the error survives a trip between processes.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nHint: {self.hint}" if self.hint else self.what


class FeatureError(TondoError):
    """Base of the feature store's errors."""


class DefinitionError(FeatureError):
    """A definition is wrong: it fails when it is planned, never when it runs."""


class BadInput(FeatureError):
    """Data or a request from outside does not have the promised shape."""


class NotFound(FeatureError):
    """A name is not known."""


class Conflict(FeatureError):
    """Somebody else changed the thing first, or holds it now."""


class DamagedData(FeatureError):
    """Stored bytes are not what was written."""


class Unavailable(FeatureError):
    """A store did not answer; nothing is known about the value."""


class ValueStateError(FeatureError):
    """One value cannot be computed; its state is ``error`` and nothing else stops."""
