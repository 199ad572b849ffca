"""The binary codec of partials: values that say their type, and numbers of any size.

One value has one encoding, so equal partials have equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from features.errors import DamagedData

_FLOAT = struct.Struct("<d")


class Writer:
    """Gathers bytes."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts = bytearray()

    def whole(self, number: int) -> None:
        """A whole number of any size and sign: seven bits a byte, the sign in the lowest."""
        number = (number << 1) if number >= 0 else ((-number << 1) - 1)
        while number > 0x7F:
            self._parts.append((number & 0x7F) | 0x80)
            number >>= 7
        self._parts.append(number)

    def raw(self, data: bytes) -> None:
        """Bytes with their length."""
        self.whole(len(data))
        self._parts += data

    def value(self, value: Any) -> None:
        """None, a bool, int, float, str, or a list of them."""
        if value is None:
            self._parts += b"n"
        elif isinstance(value, bool):
            self._parts += b"T" if value else b"F"
        elif isinstance(value, int):
            self._parts += b"i"
            self.whole(value)
        elif isinstance(value, float):
            self._parts += b"f" + _FLOAT.pack(value)
        elif isinstance(value, str):
            self._parts += b"s"
            self.raw(value.encode())
        else:
            self._list(value)

    def _list(self, values: Sequence[Any]) -> None:
        self._parts += b"l"
        self.whole(len(values))
        for value in values:
            self.value(value)

    def done(self) -> bytes:
        """Everything written."""
        return bytes(self._parts)


class Reader:
    """Reads what a Writer wrote. Raises DamagedData for anything else."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def whole(self) -> int:
        """A whole number."""
        number, shift, data, at = 0, 0, self._data, self._at
        try:
            byte = data[at]
            while byte & 0x80:
                number |= (byte & 0x7F) << shift
                shift += 7
                at += 1
                byte = data[at]
        except IndexError:
            raise _damaged() from None
        self._at = at + 1
        number |= byte << shift
        return -((number + 1) >> 1) if number & 1 else number >> 1

    def raw(self) -> bytes:
        """Bytes with their length."""
        size = self.whole()
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise _damaged()
        found = self._data[self._at : end]
        self._at = end
        return bytes(found)

    def value(self) -> Any:
        """None, a bool, int, float, str, or a list of them."""
        kind = self._data[self._at : self._at + 1]
        self._at += 1
        if kind == b"f":
            return self._float()
        if kind == b"i":
            return self.whole()
        if kind == b"n":
            return None
        if kind == b"s":
            return self._text()
        if kind in (b"T", b"F"):
            return kind == b"T"
        if kind == b"l":
            return [self.value() for _ in range(self.whole())]
        raise _damaged()

    def _float(self) -> float:
        end = self._at + 8
        if end > len(self._data):
            raise _damaged()
        (found,) = _FLOAT.unpack_from(self._data, self._at)
        self._at = end
        return float(found)

    def _text(self) -> str:
        try:
            return self.raw().decode()
        except UnicodeDecodeError:
            raise _damaged() from None

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self._at == len(self._data)


def _damaged() -> DamagedData:
    return DamagedData("a stored partial is not what was written", "Materialize the view again.")
