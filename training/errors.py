"""Errors of training, packages and Gallery."""

from __future__ import annotations

from features.errors import TondoError


class TrainingError(TondoError):
    """A model could not be trained, packaged or evaluated."""
