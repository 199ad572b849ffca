"""An online store in Redis: hot, shared by all nodes, one round trip for a whole request.

Under the prefix lies one string for each view, its versions, and one hash for each piece: a tail,
or a partition's head. A piece counts once the versions name it, and is removed in the same step as
its name, so nothing has to be searched for. A read asks for the versions, the cells and the
positions in one transaction and believes the cells only if the versions are those that it knew:
versions, cells and positions are of one moment.

Redis must neither evict nor expire these keys (``maxmemory-policy noeviction``), and what it has
acknowledged must survive it (``appendonly yes``, ``appendfsync always``). What is lost all the same
is noticed as damage, never read as "no events".
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from features.errors import DamagedData, Unavailable
from features.online.catalog import (
    Entries,
    TailFile,
    decode,
    dropped,
    encode,
    entry_of,
    files,
    promoted,
    published,
    with_head,
    with_tail,
)
from features.online.redis.connection import answers
from features.online.redis.erasure import Cut, Erasure, keys_below
from features.online.redis.reading import Known, Question, questions
from features.online.redis.scripts import CELL, CHANGE, COUNT, LOST, MARK, STALE, WRITE_HEAD
from features.online.rules import check_partition, no_tail
from features.online.sealing import damaged, pack_head, sealed_cell
from features.online.store import Cell, Found, Head, Version

_TRIES = 50
_CHUNK_CELLS, _CHUNK_BYTES = 2_000, 1 << 20
_UNFINISHED_SECONDS = 86_400
_TAIL, _HEAD = "tail", "head"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece that comes into being with a change of the versions."""

    kind: str
    name: str
    mark: bytes


class RedisStore:
    """Implements OnlineStore for all processes that share a Redis.

    A tail that is being written and never finished is removed by Redis after a day; what was
    published never expires. Raises DamagedData for cells that are not what was written.
    """

    def __init__(self, client: redis.Redis, *, prefix: str = "tondo") -> None:
        self._client = client
        self._prefix = prefix.encode()
        self._known: dict[str, Known] = {}
        self._reached: dict[str, int] = {}
        self._change_script = client.register_script(CHANGE)
        self._count_script = client.register_script(COUNT)
        self._head_script = client.register_script(WRITE_HEAD)
        self._erasure = Erasure(client, self._prefix)

    def write_tail(self, version: Version, cells: Iterable[Cell]) -> int:
        """Keeps the whole tail of a version and returns its number of cells."""
        name = f"tail:{secrets.token_hex(8)}"
        with answers(f"The tail of {version.view}"):
            try:
                number = self._filled(name, cells)
                tail = TailFile(name, number, 0)
                self._change(
                    version.view,
                    lambda entries: with_tail(entries, version, tail),
                    _Piece(_TAIL, name, b"%d" % number),
                )
            except BaseException:
                self._discard(name, version)
                raise
        return number

    def write_head(
        self, version: Version, partition: int, cells: Iterable[Cell], head: Head
    ) -> None:
        """Replaces cells of a head and its position; BadInput for a partition that is not there.

        Raises DamagedData if Redis has forgotten what this process wrote there before.
        """
        check_partition(version, partition)
        rows = [part for key, cell in cells for part in (CELL + key, sealed_cell(key, cell))]
        with answers(f"The head of {version.view}"):
            for _ in range(_TRIES):
                known = self._now(version.view)
                name = entry_of(known.entries, version).heads[partition]
                if name is None:
                    self._new_head(version, partition)
                elif self._wrote(version.view, known, name, head, rows):
                    return
        raise _restless(version.view)

    def publish(self, version: Version) -> None:
        """Makes a version the current one of its view.

        Raises NotFound without its tail, DamagedData if the tail is not what was written.
        """
        with answers(f"The version {version.number} of {version.view}"):
            tail = entry_of(self._now(version.view).entries, version).tail
            if tail is None:
                raise no_tail(version)
            if self._client.hlen(self._key(tail.name)) != tail.size + 1:
                raise damaged(f"The tail of {version.view}")
            self._change(version.view, lambda entries: promoted(entries, version))

    def versions(self, view: str) -> tuple[Version, ...]:
        """The versions of a view that are kept and were published, the current one first."""
        with answers(f"The versions of {view}"):
            return published(self._now(view).entries)

    def read(self, wanted: Sequence[tuple[str, bytes]], at: int) -> list[Found]:
        """What is known of each (view, key), in order, for a question about the time ``at``."""
        if not wanted:
            return []
        with answers("The online store"):
            for _ in range(_TRIES):
                asked = questions(wanted, self._known, at)
                answer = self._ask(list(asked.values()))
                if self._is_current(asked, answer):
                    return self._found(asked, wanted, answer)
        raise _restless(wanted[0][0])

    def views(self) -> tuple[str, ...]:
        """Every view of which anything is kept, published or not, sorted."""
        with answers("The views of the online store"):
            known = sorted(key.decode() for key in keys_below(self._client, self._versions_key("")))
            return tuple(view for view in known if self._now(view).entries)

    def erase(self, view: str, keys: Collection[bytes]) -> int:
        """Removes entities from every version of a view; how many cells there were.

        Tails that are still being written, of whatever view, are removed: their writers fail.
        """
        wanted, cells = set(keys), 0
        with answers(f"The versions of {view}"):
            for _ in range(_TRIES):
                known = self._now(view)
                cut = self._erasure.planned(known.entries, wanted) if wanted else None
                cells = max(cells, cut.cells if cut else 0)  # an answer may have been lost
                if cut is None or not cut.cells or self._erased(view, known, cut, wanted):
                    self._erasure.finish()
                    return cells
        raise _restless(view)

    def remains(self) -> tuple[str, ...]:
        """Copies that Redis does not write itself."""
        return ("replicas and copies of Redis' files: until they are made anew from it",)

    def drop(self, version: Version) -> None:
        """Removes a version and its heads, or finds it gone; Conflict for the current one."""
        with answers(f"The version {version.number} of {version.view}"):
            self._change(version.view, lambda entries: dropped(entries, version))

    def _ask(self, asked: list[Question]) -> list[Any]:
        with self._client.pipeline(transaction=True) as pipe:
            pipe.mget([self._versions_key(question.view) for question in asked])
            for question in asked:
                fields = [MARK, *(CELL + key for key in question.keys)]
                for name in question.pieces:
                    pipe.hmget(self._key(name), fields)
            return pipe.execute()

    def _is_current(self, asked: dict[str, Question], answer: list[Any]) -> bool:
        """Whether the views' versions are those that were known; else they are known now."""
        is_current = True
        for view, raw in zip(asked, answer[0], strict=True):
            if raw != asked[view].known.raw:
                self._known[view] = _known(raw)
                is_current = False
        return is_current

    def _found(
        self, asked: dict[str, Question], wanted: Sequence[tuple[str, bytes]], answer: list[Any]
    ) -> list[Found]:
        rest = iter(answer[1:])
        by_view = {view: question.found(rest) for view, question in asked.items()}
        return [by_view[view][key] for view, key in wanted]

    def _filled(self, name: str, cells: Iterable[Cell]) -> int:
        """Writes a tail that nobody knows yet; raises Unavailable if Redis lost some of it."""
        key, added = self._key(name), 0
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(key, MARK, b"")
            pipe.expire(key, _UNFINISHED_SECONDS)
            pipe.execute()
        for chunk in _chunks(cells):
            added += self._client.hset(key, mapping=chunk)  # type: ignore[arg-type]
        # A command that was sent again, over a new connection, counts no cells: "at least".
        number = int(self._count_script(keys=[key], args=[added]))
        if number == LOST:
            raise Unavailable(
                "Redis lost a part of the tail while it was written.",
                "Set its maxmemory-policy to noeviction, and try again.",
            )
        return number

    def _discard(self, name: str, version: Version) -> None:
        """Removes a tail that did not come to use; what cannot be removed now expires."""
        with contextlib.suppress(redis.RedisError, DamagedData):
            if name not in files(self._now(version.view).entries):
                self._client.unlink(self._key(name))

    def _wrote(self, view: str, known: Known, name: str, head: Head, rows: list[bytes]) -> bool:
        """Whether a head was written, or has come further; not if the versions have changed."""
        position = sealed_cell(MARK, pack_head(head))
        least = self._reached.get(name, 0)
        done = self._head_script(
            keys=[self._versions_key(view), self._key(name)],
            args=[known.raw or b"", head.offset, least, position, *rows],
        )
        if done == LOST:
            raise damaged(f"A head of {view}")
        if done == 1:
            self._reached[name] = head.offset
        return bool(done != STALE)

    def _new_head(self, version: Version, partition: int) -> None:
        name = f"head:{secrets.token_hex(8)}"
        never = sealed_cell(MARK, pack_head(Head(0, None, version.cut)))

        def made(entries: Entries) -> Entries:
            is_there = entry_of(entries, version).heads[partition] is not None
            return entries if is_there else with_head(entries, version, partition, name)

        self._change(version.view, made, _Piece(_HEAD, name, never))

    def _now(self, view: str) -> Known:
        """What Redis knows of a view, now."""
        raw: Any = self._client.get(self._versions_key(view))
        known = self._known.get(view)
        if known is None or known.raw != raw:
            known = self._known[view] = _known(raw)
        return known

    def _change(
        self, view: str, change: Callable[[Entries], Entries], new: _Piece | None = None
    ) -> None:
        """Replaces what is known of a view, and the pieces with it; again if somebody else did."""
        for _ in range(_TRIES):
            known = self._now(view)
            after = change(known.entries)
            if after == known.entries:
                return
            gone = files(known.entries) - files(after)
            done = self._changed(view, known, encode(after), new, sorted(gone))
            if done == LOST:
                raise damaged(f"The tail of {view}")
            if done != STALE:
                for name in gone:
                    self._reached.pop(name, None)
                return
        raise _restless(view)

    def _changed(
        self, view: str, known: Known, after: bytes, new: _Piece | None, gone: list[str]
    ) -> int:
        key = self._versions_key(view)
        kind, mark = (new.kind, new.mark) if new else ("", b"")
        done = self._change_script(
            keys=[key, self._key(new.name) if new else key, *(self._key(name) for name in gone)],
            args=[known.raw or b"", after, kind, mark],
        )
        return int(done)

    def _erased(self, view: str, known: Known, cut: Cut, keys: Collection[bytes]) -> bool:
        after = encode(cut.entries)
        return self._erasure.done(self._versions_key(view), known, after, cut, keys)

    def _versions_key(self, view: str) -> bytes:
        return b"%s:versions:%s" % (self._prefix, view.encode())

    def _key(self, name: str) -> bytes:
        return b"%s:%s" % (self._prefix, name.encode())


def _known(raw: bytes | None) -> Known:
    return Known(raw, decode(raw)) if raw else Known()


def _chunks(cells: Iterable[Cell]) -> Iterator[dict[bytes, bytes]]:
    """Cells as they are stored, a MiB or so at a time."""
    chunk: dict[bytes, bytes] = {}
    size = 0
    for key, cell in cells:
        chunk[CELL + key] = sealed_cell(key, cell)
        size += len(key) + len(cell)
        if size >= _CHUNK_BYTES or len(chunk) >= _CHUNK_CELLS:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


def _restless(view: str) -> Unavailable:
    return Unavailable(
        f"The versions of {view} change faster than they can be read.", "Who else publishes it?"
    )
