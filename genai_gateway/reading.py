"""Reading JSON from outside: bounded, typed, and with no field lost on the way."""

from __future__ import annotations

from typing import Any

import orjson

from genai_gateway.conversation import Json
from genai_gateway.errors import BadRequest

MAX_DEPTH = 100
_MISSING: Any = object()


def parse_object(body: bytes) -> Json:
    """A JSON object from a body. Raises BadRequest: not JSON, no object, nested too deep."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"the body is not JSON: {error}", "Send one JSON object in UTF-8."
        ) from None
    if not isinstance(data, dict):
        raise BadRequest("the body is not a JSON object", "Send one JSON object.")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _deeper(data, MAX_DEPTH):
        raise BadRequest(
            f"the body is nested more than {MAX_DEPTH} deep", "Flatten it; nobody reads so deep."
        )
    return data


def _deeper(data: object, limit: int) -> bool:
    level: list[Any] = [data]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


class Fields:
    """The fields of one JSON object, each taken once; what nobody took is ``rest()``.

    Every method raises BadRequest, naming the place, if the field is there with another type.
    """

    __slots__ = ("_left", "where")

    def __init__(self, data: Any, where: str = "") -> None:
        if not isinstance(data, dict):
            raise BadRequest(f"{where or 'the body'} is not an object", "", where)
        self._left = dict(data)
        self.where = where

    def text(self, name: str, default: str | None = None) -> str:
        """A string; ``default`` (None: there must be one) if it is missing or null."""
        return str(self._take(name, str, "a string", default))

    def optional_text(self, name: str) -> str | None:
        """A string, or None."""
        value: str | None = self._take(name, str, "a string", "") or None
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean, or None."""
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def integer(self, name: str, least: int | None = None) -> int | None:
        """A whole number of at least ``least``, or None."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number", value)
        if least is not None and value < least:
            raise self.wrong(name, f"at least {least}", value)
        return value

    def number(self, name: str, least: float = 0.0, most: float = float("inf")) -> float | None:
        """A number between ``least`` and ``most``, or None."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(name, "a number", value)
        if not least <= value <= most:
            raise self.wrong(name, f"between {least:g} and {most:g}", value)
        return value

    def items(self, name: str, default: list[Any] | None = _MISSING) -> list[Any]:
        """A list; ``default`` (left out: there must be one) if it is missing or null."""
        wanted = None if default is _MISSING else (default or [])
        value: list[Any] = self._take(name, list, "a list", wanted)
        return value

    def mapping(self, name: str, default: Json | None = None) -> Json:
        """An object; ``default`` (None: there must be one) if it is missing or null."""
        value: Json = self._take(name, dict, "an object", default)
        return value

    def any(self, name: str) -> Any:
        """Whatever stands there, or None."""
        return self._left.pop(name, None)

    def rest(self) -> Json:
        """The fields that nobody took; null ones say nothing."""
        return {name: value for name, value in self._left.items() if value is not None}

    def place(self, name: str) -> str:
        """The full name of a field, as errors give it."""
        return f"{self.where}.{name}" if self.where else name

    def wrong(self, name: str, wanted: str, value: object) -> BadRequest:
        """The error for a field that has not the promised shape."""
        place = self.place(name)
        shown = f"{value!r}"
        found = shown if len(shown) <= 40 else f"{type(value).__name__} {shown[:40]}…"
        return BadRequest(f"{place} must be {wanted}, not {found}", f"Correct {place}.", place)

    def missing(self, name: str) -> BadRequest:
        """The error for a field that must be there."""
        place = self.place(name)
        return BadRequest(f"{place} is missing", f"Add {place} to the request.", place)

    def _take(self, name: str, kind: type, wanted: str, default: Any) -> Any:
        value = self._left.pop(name, None)
        if value is None:
            if default is None:
                raise self.missing(name)
            return default
        if not isinstance(value, kind):
            raise self.wrong(name, wanted, value)
        return value
