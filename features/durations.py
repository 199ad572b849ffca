"""Lengths of time as whole microseconds."""

from __future__ import annotations

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def milliseconds(count: int) -> int:
    """``count`` milliseconds, in µs."""
    return count * MILLISECOND


def seconds(count: int) -> int:
    """``count`` seconds, in µs."""
    return count * SECOND


def minutes(count: int) -> int:
    """``count`` minutes, in µs."""
    return count * MINUTE


def hours(count: int) -> int:
    """``count`` hours, in µs."""
    return count * HOUR


def days(count: int) -> int:
    """``count`` days of 24 hours, in µs."""
    return count * DAY
