"""Moments at the edge: text with a time zone in, UTC microseconds inside, RFC 3339 out."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from app.errors import BadInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = re.compile(r"-?[0-9]{1,20}")


def written(moment: int) -> str:
    """UTC µs as RFC 3339. Raises BadInput beyond the years 1 to 9999, which it cannot write."""
    try:
        return _text(moment)
    except OverflowError:
        raise BadInput(f"{moment} µs since 1970 is beyond the year 9999, or before 1") from None


def _text(moment: int) -> str:
    return (_EPOCH + timedelta(microseconds=moment)).isoformat().replace("+00:00", "Z")


def read_moment(text: str) -> int:
    """RFC 3339 text, or a number of µs, as UTC µs. Raises BadInput for a time without a zone."""
    if _NUMBER.fullmatch(text):
        return _known(int(text))
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


def _known(moment: int) -> int:
    """The moment, if it can be written; else BadInput."""
    written(moment)
    return moment
