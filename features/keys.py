"""The bytes of an entity's key: one text for each key, and no other key has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SIGN = 1 << 63


def key_bytes(values: Sequence[Any]) -> bytes | None:
    """The parts of a key (str, int, bool, or a time in µs) as bytes; None if a part is null.

    Every part says its type and its length, so no two keys share their bytes.
    """
    parts = []
    for value in values:
        if value is None:
            return None
        parts.append(_part(value))
    return b"".join(parts)


def _part(value: Any) -> bytes:
    if isinstance(value, str):
        text = value.encode()
        return b"s" + len(text).to_bytes(4, "big") + text
    if isinstance(value, bool):
        return b"b\x01" if value else b"b\x00"
    return b"i" + (int(value) + _SIGN).to_bytes(8, "big")
