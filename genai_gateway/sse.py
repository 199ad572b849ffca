"""Server-sent events: bytes to events, whatever the chunk boundaries, and events to bytes."""

from __future__ import annotations

from collections.abc import Iterator

from genai_gateway.errors import UpstreamFailed

MAX_EVENT_BYTES = 16 * 1024 * 1024


class EventParser:
    """Cuts a stream of bytes into ``(event, data)`` pairs; comments and other fields are skipped.

    Raises UpstreamFailed for an event of more than 16 MiB.
    """

    __slots__ = ("_buffer", "_data", "_event")

    def __init__(self) -> None:
        self._buffer = b""
        self._event = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The events that are complete with this chunk."""
        lines = (self._buffer + chunk).split(b"\n")
        self._buffer = lines.pop()
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise UpstreamFailed("the upstream sent an event of more than 16 MiB")
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if line:
                self._field(line)
            elif self._data:
                yield self._event, b"\n".join(self._data)
                self._event, self._data = b"", []

    @property
    def pending(self) -> bool:
        """Whether the stream stopped in the middle of an event."""
        return bool(self._buffer.strip() or self._data)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value


def data_event(data: bytes) -> bytes:
    """An event without a name."""
    return b"data: " + data + b"\n\n"


def named_event(name: str, data: bytes) -> bytes:
    """An event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
