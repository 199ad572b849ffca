"""Moments at the edge: text with a time zone in, UTC microseconds inside, RFC 3339 out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.errors import BadInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def written(moment: int) -> str:
    """UTC µs as RFC 3339."""
    return (_EPOCH + timedelta(microseconds=moment)).isoformat().replace("+00:00", "Z")


def read_moment(text: str) -> int:
    """RFC 3339 text, or a number of µs, as UTC µs. Raises BadInput for a time without a zone."""
    if text.lstrip("-").isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{text!r} is not a time", "Write for example 2013-11-01T12:00:00Z."
        ) from None
    if moment.tzinfo is None:
        raise BadInput(
            f"the time {text!r} has no zone, so it names no moment", f"Write {text}Z if it is UTC."
        )
    return (moment - _EPOCH) // _MICROSECOND
