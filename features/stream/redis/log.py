"""The event log as Redis Streams: a stream for each partition, an entry for each event.

An event's entry id is ``<offset>-1``. Beside each stream stands a hash with the partition's end and
the time of its last event. A script adds all rows of an append or none: it compares the end with
what the appender knew, so that any number of processes may append, and it knows an append that it
has made already by its first entry, so that one whose answer was lost can be sent again.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from features.clock import Clock
from features.errors import BadInput, Conflict, DamagedData, NotFound, Unavailable
from features.stream.frames import event_of, framed, new_append, read_frame
from features.stream.log import Event
from features.stream.partitions import check_count, check_partition, other_count, removed
from features.stream.redis.erasure import StreamErasure
from features.stream.rows import Packed, pack_rows

APPEND_BYTES = 256 << 20
"""What the rows of one append may come to."""

_CHUNK = 1_000
_GONE, _MOVED = -1, 0
_APPEND = """
local known = redis.call('HMGET', KEYS[2], 'end', 'at', 'settled')
if not known[1] then return {-1} end
local start = tonumber(ARGV[1])
local count = (#ARGV - 3) / 2
if tonumber(known[1]) ~= start or known[3] ~= ARGV[3] then
  local id = string.format('%.0f-1', start)
  local there = redis.call('XRANGE', KEYS[1], id, id)[1]
  if there and there[2][2] == ARGV[4] then return {1} end
  return {0, known[1], known[2], known[3]}
end
for n = 0, count - 1 do
  redis.call('XADD', KEYS[1], string.format('%.0f-1', start + n),
             'frame', ARGV[4 + 2 * n], 'row', ARGV[5 + 2 * n])
end
redis.call('HSET', KEYS[2], 'end', string.format('%.0f', start + count), 'at', ARGV[2])
return {1}
"""
_SETTLE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return nil end
redis.call('HINCRBY', KEYS[1], 'settled', 1)
return redis.call('HGET', KEYS[1], 'end')
"""
_NEVER = -(1 << 63)


class _End(NamedTuple):
    """The next offset, when the event before it was appended, and how often that was settled."""

    offset: int
    before: int
    settled: int


class RedisLog:
    """Implements EventLog in one Redis; processes and threads may share a log.

    ``name`` is the prefix of its keys, ``timeout_s`` the longest a call waits for an answer, to be
    asked twice in that time. An append is durable when the server has it in its file
    (``appendonly yes``, ``appendfsync always``) and ``replicas`` other servers have it in memory.
    A server that keeps less is refused, unless ``must_fsync`` is off. Opening a log with another
    number of partitions than it has raises Conflict, and so does a server that may throw it away.

    ``password_file`` holds the password alone.

    If Unavailable is raised by an append whose answer was lost, all of it may stand, never a part:
    read on from the end that was known before.
    """

    def __init__(
        self,
        url: str,
        name: str,
        partitions: int,
        clock: Clock,
        *,
        timeout_s: float = 10.0,
        replicas: int = 0,
        must_fsync: bool = True,
        password_file: Path | None = None,
    ) -> None:
        check_count(partitions)
        self._redis = Redis.from_url(
            url,
            **({} if password_file is None else {"password": _secret(password_file)}),
            socket_timeout=timeout_s / 2,
            socket_connect_timeout=timeout_s / 2,
            retry=Retry(NoBackoff(), 1),  # every command here may be sent twice
            decode_responses=False,
        )
        self._name, self._replicas = name, replicas
        self._wait_ms = int(timeout_s * 400)
        self._script = self._redis.register_script(_APPEND)
        self._settling = self._redis.register_script(_SETTLE)
        self._erasure = StreamErasure(self._redis)
        with _server(name):
            if must_fsync:
                _check_durable(self._redis)
            self._create(partitions)
        self._clock = clock
        self._ends: list[_End | None] = [None] * partitions
        self._appending = [threading.Lock() for _ in range(partitions)]

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._ends)

    def append(self, partition: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Adds rows in their order and returns the offset after the last one, once durable.

        Raises BadInput too if the rows come to more than APPEND_BYTES.
        """
        packed = pack_rows(rows)
        check_partition(partition, self.partitions)
        _check_size(packed)
        with self._appending[partition], _server(self._name):
            return self._append(partition, packed) if packed else self._settle(partition)

    def read(self, partition: int, offset: int, limit: int) -> list[Event]:
        """Up to ``limit`` events from an offset on; none at the end of the log."""
        check_partition(partition, self.partitions)
        if offset < 0:
            raise removed(offset, 0)
        found: list[Event] = []
        with _server(self._name):
            while len(found) < limit:
                wanted = min(_CHUNK, limit - len(found))
                chunk = self._chunk(partition, offset + len(found), wanted)
                found += chunk
                if len(chunk) < wanted:
                    break
        return found

    def erase(self, offsets: Mapping[int, Collection[int]]) -> int:
        """Removes what these events say for good and returns how many there were still.

        Redis has a second copy of a stream meanwhile.
        """
        for partition in offsets:
            check_partition(partition, self.partitions)
        with _server(self._name):
            found = sum(
                self._erasure.erase(self._stream(partition), self._state(partition), some)
                for partition, some in offsets.items()
            )
            self._erasure.finish([self._stream(p) for p in range(self.partitions)])
            return found

    def remains(self) -> tuple[str, ...]:
        """Copies that Redis does not write itself."""
        return ("replicas and copies of Redis' files: until they are made anew from it",)

    def end(self, partition: int) -> int:
        """The offset that the next event will have."""
        check_partition(partition, self.partitions)
        with _server(self._name):
            return self._known_end(partition).offset

    def offset_at(self, partition: int, appended_at: int) -> int:
        """The first offset whose event was appended at that time (UTC µs) or later, or the end."""
        check_partition(partition, self.partitions)
        with _server(self._name):
            end = self._known_end(partition)
            first = self._redis.xrange(self._stream(partition), count=1)
            if not first or appended_at > end.before:
                return end.offset
            kept = range(_offset(first[0]), end.offset)
            return kept.start + bisect_left(
                kept, appended_at, key=lambda offset: self._appended_at(partition, offset)
            )

    def close(self) -> None:
        """Lets go of the connections; a later call opens new ones."""
        self._redis.close()

    def _append(self, partition: int, rows: Sequence[Packed]) -> int:
        end = self._ends[partition] or self._known_end(partition)
        name = new_append()
        while True:
            self._ends[partition] = None  # until it is known what became of it
            now = max(self._clock.now(), end.before)
            done, *told = self._added(partition, end, now, framed(rows, end.offset, now, name))
            if done == _GONE:
                raise self._gone()
            if done != _MOVED:
                self._ends[partition] = _End(end.offset + len(rows), now, end.settled)
                return end.offset + len(rows)
            end = _End(*map(int, told))

    def _settle(self, partition: int) -> int:
        """Makes sure that no append which was sent before can still be made."""
        self._ends[partition] = None
        end = self._settling(keys=[self._state(partition)])
        if end is None:
            raise self._gone()
        return int(end)

    def _added(
        self, partition: int, end: _End, now: int, entries: Sequence[tuple[bytes, bytes]]
    ) -> list[Any]:
        """What the script says."""
        keys = [self._stream(partition), self._state(partition)]
        given: list[bytes | int] = [end.offset, now, end.settled]
        given += [part for entry in entries for part in entry]
        if not self._replicas:
            return list(self._script(keys=keys, args=given))
        with self._redis.pipeline(transaction=False) as pipeline:
            self._script(keys=keys, args=given, client=pipeline)
            pipeline.wait(self._replicas, self._wait_ms)
            answer, copies = pipeline.execute()
        if answer[0] == 1 and copies < self._replicas:
            raise Unavailable(
                f"an append to {self._name} is on {copies} replicas, not on {self._replicas}",
                "it stands in the log, but may be lost with the server: see what the replicas do",
            )
        return list(answer)

    def _chunk(self, partition: int, offset: int, limit: int) -> list[Event]:
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xrange(self._stream(partition), f"{offset}-1", "+", count=limit)
            pipeline.hget(self._state(partition), "end")
            entries, end = pipeline.execute()
        if end is None:
            raise self._gone()
        if offset < (_offset(entries[0]) if entries else int(end)):
            raise self._not_there(partition, offset, int(end))
        return [self._event(partition, offset + n, entry) for n, entry in enumerate(entries)]

    def _not_there(self, partition: int, offset: int, end: int) -> NotFound | DamagedData:
        first = self._redis.xrange(self._stream(partition), count=1)
        kept = _offset(first[0]) if first else end
        if offset < kept:
            return removed(offset, kept)
        return _missing(self._stream(partition), offset)

    def _event(self, partition: int, offset: int, entry: Any) -> Event:
        where = f"event {offset} of {self._stream(partition)}"
        fields = entry[1] or {}
        row = fields.get(b"row", b"")
        frame = read_frame(fields.get(b"frame", b""), row, where)
        if frame.offset != offset:
            raise _missing(self._stream(partition), offset)
        return event_of(frame, row)

    def _appended_at(self, partition: int, offset: int) -> int:
        events = self._chunk(partition, offset, 1)
        return events[0].appended_at

    def _known_end(self, partition: int) -> _End:
        found = self._redis.hmget(self._state(partition), ["end", "at", "settled"])
        if None in found:
            raise self._gone()
        return _End(*(int(number) for number in found if number is not None))

    def _create(self, partitions: int) -> None:
        """Makes the log unless it is there; its number of partitions is written last."""
        found: Any = self._redis.get(self._name)
        if found is None:
            for partition in range(partitions):
                state = self._state(partition)
                self._redis.hsetnx(state, "at", str(_NEVER))
                self._redis.hsetnx(state, "settled", "0")
                self._redis.hsetnx(state, "end", "0")
            self._redis.set(self._name, str(partitions), nx=True)
            found = self._redis.get(self._name)
        if found != str(partitions).encode():
            raise other_count(self._name, (found or b"no").decode(), partitions)

    def _stream(self, partition: int) -> str:
        # Braces: a cluster of Redis keeps both keys of a partition on one server.
        return f"{{{self._name}.{partition}}}"

    def _state(self, partition: int) -> str:
        return f"{{{self._name}.{partition}}}.end"

    def _gone(self) -> Unavailable:
        return Unavailable(
            f"the log {self._name} is no longer in Redis",
            "somebody emptied the server, or it lost its file: restore it from a copy",
        )


@contextmanager
def _server(name: str) -> Iterator[None]:
    """Says Unavailable when the server fails, and what it says itself."""
    try:
        yield
    except AuthenticationError as error:
        raise Unavailable(
            f"Redis refuses the log {name}: {error}", "see stream.redis_url"
        ) from None
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            hint = "choose another stream.prefix"
            raise Conflict(f"a key of the log {name} is used by somebody else", hint) from None
        raise Unavailable(f"Redis cannot serve the log {name}: {error}", _HINT) from error
    except RedisError as error:
        raise Unavailable(f"the log {name} does not answer: {error}", _HINT) from error


_HINT = (
    "see whether the server at stream.redis_url runs, is no replica, and has memory and disk left"
)


def _secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Unavailable(
            f"the password of Redis in {path} cannot be read: {error.strerror}",
            "see stream.redis_password_file",
        ) from error


def _check_durable(redis: Any) -> None:
    """Raises Conflict unless what the server acknowledges is in its file and stays there."""
    wanted = {"appendonly": "yes", "appendfsync": "always"}
    found = redis.config_get(*wanted, "maxmemory-policy")
    wrong = [f"{name} {value}" for name, value in wanted.items() if found.get(name) != value]
    if str(found.get("maxmemory-policy")).startswith("allkeys"):
        wrong.append("maxmemory-policy noeviction")
    if wrong:
        raise Conflict(
            f"this Redis may lose what it acknowledged: it lacks {', '.join(wrong)}",
            "configure it so, or set stream.redis_must_fsync: false if events may be lost with it",
        )


def _missing(stream: str, offset: int) -> DamagedData:
    return DamagedData(
        f"event {offset} is missing in {stream}",
        "restore the stream from a copy; nothing was skipped",
    )


def _check_size(rows: Sequence[Packed]) -> None:
    size = sum(len(payload) for payload, _ in rows)
    if size > APPEND_BYTES:
        raise BadInput(
            f"the rows of one append come to {size} bytes, more than {APPEND_BYTES}",
            "append them in several calls",
        )


def _offset(entry: Any) -> int:
    """The offset in an entry's id."""
    return int(bytes(entry[0]).partition(b"-")[0])
