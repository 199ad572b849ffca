"""The binary codec of partials: values that say their type, and numbers of any size.

One value has one encoding, so equal partials have equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from features.errors import DamagedData

_FLOAT = struct.Struct("<d")
_TIME = struct.Struct("<q")
_TIMES = struct.Struct("<qq")
_INLINE = 64
"""Whole numbers from here below zero up to 127 are one byte."""
_SIZES = 192
"""First bytes from here on say how many bytes follow; the last says that the size does."""
_LONG = 255


class Writer:
    """Gathers bytes."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts = bytearray()

    def whole(self, number: int) -> None:
        """A whole number of any size: small ones in a byte, else its size and two's complement."""
        if -_INLINE <= number < _SIZES - _INLINE:
            self._parts.append(number + _INLINE)
            return
        size = ((number if number >= 0 else ~number).bit_length() >> 3) + 1
        if _SIZES + size < _LONG:
            self._parts.append(_SIZES + size)
        else:
            self._parts.append(_LONG)
            self.whole(size)
        self._parts += number.to_bytes(size, "little", signed=True)

    def time(self, time: int) -> None:
        """A time in µs, always as long."""
        self._parts += _TIME.pack(time)

    def times(self, one: int, other: int) -> None:
        """Two times."""
        self._parts += _TIMES.pack(one, other)

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
        at = self._at
        try:
            first = self._data[at]
        except IndexError:
            raise damaged() from None
        self._at = at = at + 1
        if first < _SIZES:
            return first - _INLINE
        size = first - _SIZES if first < _LONG else self.whole()
        at = self._at
        end = at + size
        if size < 1 or end > len(self._data):
            raise damaged()
        self._at = end
        return int.from_bytes(self._data[at:end], "little", signed=True)

    def time(self) -> int:
        """A time in µs."""
        at = self._at
        self._at = at + _TIME.size
        try:
            (found,) = _TIME.unpack_from(self._data, at)
        except struct.error:
            raise damaged() from None
        return int(found)

    def times(self) -> tuple[int, int]:
        """Two times."""
        at = self._at
        self._at = at + _TIMES.size
        try:
            one, other = _TIMES.unpack_from(self._data, at)
        except struct.error:
            raise damaged() from None
        return one, other

    def many_times(self, count: int) -> tuple[int, ...]:
        """As many times."""
        at = self._at
        self._at = at + _TIME.size * count
        try:
            return struct.unpack_from(f"<{count}q", self._data, at)
        except struct.error:
            raise damaged() from None

    def raw(self) -> bytes:
        """Bytes with their length."""
        size = self.whole()
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise damaged()
        found = self._data[self._at : end]
        self._at = end
        return bytes(found)

    def value(self) -> Any:
        """None, a bool, int, float, str, or a list of them."""
        at = self._at
        kind = self._data[at : at + 1]
        self._at = at = at + 1
        if kind == b"f":
            self._at = at + _FLOAT.size
            try:
                return _FLOAT.unpack_from(self._data, at)[0]
            except struct.error:
                raise damaged() from None
        if kind == b"n":
            return None
        if kind == b"i":
            return self.whole()
        if kind == b"s":
            return self._text()
        if kind in (b"T", b"F"):
            return kind == b"T"
        if kind == b"l":
            return [self.value() for _ in range(self.whole())]
        raise damaged()

    def _text(self) -> str:
        try:
            return self.raw().decode()
        except UnicodeDecodeError:
            raise damaged() from None

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self._at == len(self._data)


def damaged() -> DamagedData:
    """The error for bytes that are not those of a partial."""
    return DamagedData("a stored partial is not what was written", "Materialize the view again.")
