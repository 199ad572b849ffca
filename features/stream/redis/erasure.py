"""Events out of a Redis Stream: the stream written anew beside itself, then put in its place.

Redis keeps what is deleted from a stream, in memory and in its files, until all that lies near it
is deleted as well. So each stream is copied, with frames alone for the erased events, and renamed
in one step. Redis then writes its files anew; until it has, a mark says that this is to be done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from redis import Redis

from features.errors import Conflict
from features.redis_disk import rewrite_files
from features.stream.frames import Frame, erased, framed_again, new_append, read_frame

_CHUNK = 1_000
_SWAP = """
local known = redis.call('HMGET', KEYS[2], 'end', 'settled')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[4], '1')
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[1]) end
return 1
"""


class StreamErasure:
    """Erases from the streams of one log. Raises the errors of redis-py."""

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._swap = client.register_script(_SWAP)

    def erase(self, stream: str, state: str, offsets: Collection[int]) -> int:
        """Erases events of a stream; how many were not erased yet. Conflict if it grows."""
        copy = f"{stream}.copy"
        self._redis.delete(copy)
        known = self._redis.hmget(state, ["end", "settled"])
        wanted = self._holding(stream, offsets)
        if wanted:
            self._copied(stream, copy, wanted)
            given: list[Any] = [*known]
            if not self._swap(keys=[stream, state, copy, _mark(stream)], args=given):
                self._redis.delete(copy)
                raise Conflict(
                    f"somebody else has appended to {stream}", "nobody may while it is erased from"
                )
        return len(wanted)

    def finish(self, streams: Sequence[str]) -> None:
        """Lets Redis forget what was erased, now or by a call that was cut off."""
        marks = [_mark(stream) for stream in streams if self._redis.exists(_mark(stream))]
        if marks:
            rewrite_files(self._redis)
        for mark in marks:
            self._redis.delete(mark)

    def _holding(self, stream: str, offsets: Collection[int]) -> set[int]:
        """Those of the events that are there and say something."""
        known = sorted({offset for offset in offsets if offset >= 0})
        holding = set()
        for start in range(0, len(known), _CHUNK):
            asked = known[start : start + _CHUNK]
            with self._redis.pipeline(transaction=False) as pipe:
                for offset in asked:
                    pipe.xrange(stream, f"{offset}-1", f"{offset}-1")
                found = pipe.execute()
            for offset, entries in zip(asked, found, strict=True):
                if entries and not _read(stream, entries[0])[0].erased:
                    holding.add(offset)
        return holding

    def _copied(self, stream: str, copy: str, unwanted: Collection[int]) -> None:
        for entries in self._chunks(stream):
            with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    frame, row = _read(stream, entry)
                    fields: dict[Any, Any] = entry[1]
                    if frame.offset in unwanted:
                        ((blank, row),) = framed_again([erased(frame)], new_append())
                        fields = {b"frame": blank, b"row": row}
                    pipe.xadd(copy, fields, id=entry[0])
                pipe.execute()

    def _chunks(self, stream: str) -> Iterator[list[Any]]:
        redis: Any = self._redis
        start = b"-"
        while entries := redis.xrange(stream, start, "+", count=_CHUNK):
            yield entries
            start = b"(" + entries[-1][0]


def _mark(stream: str) -> str:
    return f"{stream}.erasing"


def _read(stream: str, entry: Any) -> tuple[Frame, bytes]:
    identity, fields = entry
    row = fields.get(b"row", b"")
    where = f"entry {identity.decode()} of {stream}"
    return read_frame(fields.get(b"frame", b""), row, where), row
