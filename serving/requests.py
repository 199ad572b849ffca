"""The native request body: its shape, before any value in it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from features.errors import BadInput
from serving.errors import TooLarge
from serving.fields import near_names, parse_time

MAX_ROWS = 10_000
_TOP = ("entities", "request", "rows", "at")
_ROW = ("entities", "request")
_EMPTY: Mapping[str, object] = {}
_SHAPE = (
    'send {"entities": {…}, "request": {…}} or {"rows": [{"entities": {…}, "request": {…}}, …]}'
)


@dataclass(frozen=True, slots=True)
class Row:
    """Entity keys and request fields of one prediction, as they came."""

    entities: Mapping[str, object]
    request: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """The rows to answer, and the time they are asked at if the request names one (UTC µs)."""

    rows: tuple[Row, ...]
    at: int | None


def parse_json(body: bytes) -> object:
    """The JSON value of a body; raises BadInput saying where it breaks."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "the body is empty" if not body.strip() else _SHAPE
        raise BadInput(f"the body is not JSON: {error}", hint) from None


def read_request(body: object) -> Request:
    """The rows of a native body; raises BadInput when its shape is another."""
    if type(body) is not dict:
        raise BadInput("the body is not a JSON object", _SHAPE)
    at = parse_time(body["at"], '"at"') if "at" in body else None
    if "rows" in body:
        _only(body, ("rows", "at"))
        return Request(_rows(body["rows"]), at)
    _only(body, _TOP)
    return Request((_row(body),), at)


def _rows(given: object) -> tuple[Row, ...]:
    if type(given) is not list or not given:
        raise BadInput('"rows" is not a list with at least one row', _SHAPE)
    if len(given) > MAX_ROWS:
        raise TooLarge(f"{len(given)} rows in one request", f"send at most {MAX_ROWS} at a time")
    return tuple(_whole_row(row) for row in given)


def _whole_row(given: object) -> Row:
    if type(given) is not dict:
        raise BadInput("a row is not a JSON object", _SHAPE)
    _only(given, _ROW)
    return _row(given)


def _row(given: dict[str, object]) -> Row:
    return Row(_part(given, "entities"), _part(given, "request"))


def _part(given: dict[str, object], name: str) -> Mapping[str, object]:
    part = given.get(name, _EMPTY)
    if not isinstance(part, dict):
        raise BadInput(f'"{name}" is not a JSON object', _SHAPE)
    return part


def _only(given: dict[str, object], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"field {name!r} is not known here", near_names(name, known))
