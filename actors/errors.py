"""What can go wrong in a process that holds state."""

from __future__ import annotations

from features.errors import Conflict, NotFound, TondoError, Unavailable


class ActorError(TondoError):
    """Base of the actors' own errors; what a room raises inside one passes through as it is."""


__all__ = ["ActorError", "Conflict", "NotFound", "Unavailable"]
