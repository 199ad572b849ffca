"""Metrics of exchanges: counts, tokens, money, times; labels never hold what a client wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from genai_gateway.records.record import ANSWERED, Record

REQUESTS = "tondo_llm_requests_total"
TOKENS = "tondo_llm_tokens_total"
COST = "tondo_llm_cost_nano_usd_total"
EXCESS = "tondo_llm_excess_nano_usd_total"
FINDINGS = "tondo_llm_findings_total"
RETRIES = "tondo_llm_retries_total"
DURATION = "tondo_llm_duration_ms"
FIRST_TOKEN = "tondo_llm_time_to_first_token_ms"
INTER_TOKEN = "tondo_llm_inter_token_ms"
_MOST_VALUES = 1_000


class Meters(Protocol):
    """Where metrics go."""

    def count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds to a counter."""
        ...

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Adds a value to a histogram."""
        ...


class MetricsRecorder:
    """Turns records into metrics."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def record(self, record: Record) -> None:
        """Counts one record."""
        meters, model = self._meters, {"model": record.model, "served": record.served}
        by_project = {**model, "project": record.project}
        outcome = {"surface": record.surface, "outcome": record.outcome, "cache": record.cache}
        meters.count(REQUESTS, 1, {**by_project, **outcome})
        if record.attempts > 1:
            meters.count(RETRIES, record.attempts - 1, model)
        for kind in ("input", "output", "cached", "reasoning"):
            amount = getattr(record.usage, kind)
            if amount:
                meters.count(TOKENS, amount, {**by_project, "kind": kind})
        if record.cost_nano_usd:
            meters.count(COST, record.cost_nano_usd, by_project)
        if record.excess_nano_usd:
            meters.count(EXCESS, record.excess_nano_usd, by_project)
        self._times(record, model)
        self._findings(record)

    def _times(self, record: Record, model: dict[str, str]) -> None:
        if record.outcome != ANSWERED:
            return
        self._meters.observe(DURATION, (record.finished - record.at) / 1_000, model)
        self._meters.observe(FIRST_TOKEN, (record.first_token - record.at) / 1_000, model)
        if record.events > 1:
            between = (record.finished - record.first_token) / (record.events - 1) / 1_000
            self._meters.observe(INTER_TOKEN, between, model)

    def _findings(self, record: Record) -> None:
        scanned = record.scanned or {}
        for name, count in scanned.get("found", {}).items():
            side, step, kind, action = name.split("/")
            labels = {"policy": scanned["policy"], "side": side, "step": step}
            self._meters.count(FINDINGS, count, {**labels, "kind": kind, "action": action})


class MemoryMeters:
    """Keeps metrics in memory: for tests."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self.values: dict[str, list[float]] = {}

    def count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds to a counter."""
        key = name, tuple(sorted(labels.items()))
        self.counts[key] = self.counts.get(key, 0) + amount

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Keeps a value."""
        self.values.setdefault(name, []).append(value)

    def total(self, name: str, **labels: str) -> int:
        """The sum of a counter over all labels that are not given."""
        wanted = set(labels.items())
        return sum(
            n for (which, have), n in self.counts.items() if which == name and wanted <= set(have)
        )


class BufferedMeters:
    """Adds up in memory what other meters are told when it is flushed, once a second.

    Of a histogram, at most 1,000 values a label set are kept between flushes; counts are exact.
    """

    def __init__(self, inner: Meters) -> None:
        self._inner = inner
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}

    def count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds to a counter."""
        self._counts[name, tuple(labels.items())] += amount

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Keeps a value."""
        values = self._values.setdefault((name, tuple(labels.items())), [])
        if len(values) < _MOST_VALUES:
            values.append(value)

    def flush(self) -> None:
        """Tells the inner meters what was added up, and begins anew."""
        counts, self._counts = self._counts, Counter()
        values, self._values = self._values, {}
        for (name, labels), amount in counts.items():
            self._inner.count(name, amount, dict(labels))
        for (name, labels), kept in values.items():
            for value in kept:
                self._inner.observe(name, value, dict(labels))
