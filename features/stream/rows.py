"""Rows as bytes: JSON that also carries what JSON cannot say, NaN and the infinities.

A float that is not finite is written as ``{"": "nan"}``; a dictionary that looks like that itself
is wrapped once more. Rows with such values are told apart by a flag, so that others cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import orjson

from features.errors import BadInput

Packed = tuple[bytes, bool]
"""A row as JSON, and whether it holds escapes."""

_ATOMS = frozenset({int, str, bool, type(None)})
_HINT = (
    "a row has strings as names, and as values None, booleans, integers of 64 bits, floats, "
    "strings, and lists and dictionaries of them; times are UTC µs"
)


def pack_rows(rows: Sequence[Mapping[str, Any]]) -> list[Packed]:
    """Every row as bytes; raises BadInput, naming its place, if one of them cannot be written."""
    return [_pack(number, row) for number, row in enumerate(rows)]


def unpack_row(payload: bytes, escaped: bool) -> dict[str, Any]:
    """The row that was packed; a tuple comes back as a list."""
    row: dict[str, Any] = orjson.loads(payload)
    return {name: _unescape(value) for name, value in row.items()} if escaped else row


def _pack(number: int, row: Mapping[str, Any]) -> Packed:
    try:
        return _packed(row if type(row) is dict else dict(row))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"row {number} cannot be written as JSON: {error}", _HINT) from None


def _packed(row: dict[str, Any]) -> Packed:
    values = row.values()
    if _ATOMS.issuperset(map(type, values)) or all(map(_is_plain, values)):
        return orjson.dumps(row), False
    return orjson.dumps({name: _escape(value) for name, value in row.items()}), True


def _is_plain(value: Any) -> bool:
    """True if JSON says it as it is."""
    kind = type(value)
    if kind is float:
        return isfinite(value)
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))
    if kind is dict:
        return all(map(_is_plain, value.values())) and value.keys() != {""}
    return kind in _ATOMS


def _escape(value: Any) -> Any:
    """What JSON can say for it; raises TypeError for what would not come back as it was."""
    kind = type(value)
    if kind is float:
        return value if isfinite(value) else {"": str(value)}
    if kind is list or kind is tuple:
        return [_escape(item) for item in value]
    if kind is dict:
        inner = {name: _escape(item) for name, item in value.items()}
        return {"": inner} if inner.keys() == {""} else inner
    if kind in _ATOMS:
        return value
    raise TypeError(f"it has a value of type {kind.__name__}")


def _unescape(value: Any) -> Any:
    if isinstance(value, list):
        return [_unescape(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {""}:
        return {name: _unescape(item) for name, item in value.items()}
    inner = value[""]
    return float(inner) if isinstance(inner, str) else {"": _unescape(inner[""])}
