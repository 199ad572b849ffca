"""The port to cached answers, and a bounded cache in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from genai_gateway.clock import SECOND, Clock
from genai_gateway.conversation import Answer
from genai_gateway.exchange import Exchange

_NOTHING: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What a cached answer is an answer to. There is no key without a project.

    ``digest`` covers the route, its policy, the whole request as the model sees it, and what each
    placeholder in it stands for: the same words about another person are another key.
    """

    project: str
    digest: str

    @classmethod
    def of(cls, exchange: Exchange) -> CacheKey:
        """The key of an exchange after its guardrails."""
        request = replace(exchange.request, stream=False, stream_usage=False, user="")
        policy = exchange.report.policy if exchange.report else ""
        binding = exchange.vault.binding() if exchange.vault else _NOTHING
        parts = (exchange.route.name, policy, binding, request)
        raw = orjson.dumps(parts, default=_kind, option=orjson.OPT_SORT_KEYS)
        return cls(exchange.caller.project, hashlib.sha256(raw).hexdigest())


class AnswerCache(Protocol):
    """Keeps answers for a while."""

    def get(self, key: CacheKey, oldest: int) -> Answer | None:
        """An answer that was put at ``oldest`` (UTC µs) or later and has not expired."""
        ...

    def put(self, key: CacheKey, answer: Answer, ttl_s: int) -> None:
        """Keeps an answer for so many seconds."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: Answer
    size: int
    put_at: int
    expires_at: int


class MemoryCache:
    """Keeps answers in this process; what was not used for longest goes when it is full."""

    def __init__(self, clock: Clock, most_bytes: int = 64 * 1024 * 1024) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._entries: OrderedDict[CacheKey, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: CacheKey, oldest: int) -> Answer | None:
        """An answer that was put at ``oldest`` (UTC µs) or later and has not expired."""
        entry = self._entries.get(key)
        if entry is None or entry.put_at < oldest:
            return None
        if entry.expires_at <= self._clock.now():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.answer

    def put(self, key: CacheKey, answer: Answer, ttl_s: int) -> None:
        """Keeps an answer for so many seconds, unless it alone would fill the cache."""
        self._remove(key)
        size = len(orjson.dumps(answer, default=_kind)) + 200
        if size > self._most_bytes // 4:
            return
        now = self._clock.now()
        self._entries[key] = _Entry(answer, size, now, now + ttl_s * SECOND)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: CacheKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size


def _kind(value: Any) -> Any:
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    return dict(value)
