"""Metrics count every answer once, off the hot path."""

from collections import Counter
from collections.abc import Mapping, Sequence

from serving.monitoring import BatchedMetrics


class Kept:
    """An exporter that keeps what it gets."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.values: list[float] = []

    def count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds up."""
        self.counts[(name, *labels.values())] += amount

    def observe(self, name: str, values: Sequence[float], labels: Mapping[str, str]) -> None:
        """Keeps values."""
        self.values.extend(values)


def test_a_flush_exports_what_gathered_once() -> None:
    """Requests by route and status, latencies in ms, and states are exported, then forgotten."""
    exporter = Kept()
    metrics = BatchedMetrics(exporter)
    metrics.answered("predict", 200, 250.0)
    metrics.answered("predict", 200, 750.0)
    metrics.answered("predict", 400, 100.0)
    metrics.states(["value", "value", "empty"])
    metrics.flush()
    metrics.flush()
    assert exporter.counts == {
        ("tondo_requests_total", "predict", "200"): 2,
        ("tondo_requests_total", "predict", "400"): 1,
        ("tondo_feature_states_total", "value"): 2,
        ("tondo_feature_states_total", "empty"): 1,
    }
    assert sorted(exporter.values) == [0.1, 0.25, 0.75]
