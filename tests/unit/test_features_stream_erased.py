"""A stream whose log has events that were erased."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.unit.test_features_stream_processor import FIRST, Bench


def test_an_erased_event_is_passed(tmp_path: Path) -> None:
    """Read before or after: it neither counts nor lands from then on, and nothing else changes."""
    bench = Bench(tmp_path)
    bench.append({"id": "1"}, {"id": "2", "k": "b"}, {"id": "3"})
    bench.log.erase({0: [1]})
    bench.publish(FIRST)
    bench.processor.step()
    assert bench.processor.land() == 2
    bench.append({"id": "4", "k": "b"})
    bench.log.erase({0: [3]})
    bench.processor.catch_up(4, 0)
    with closing(bench.again()) as processor:
        stats = processor.stats()
        assert (stats["read"], stats["accepted"], stats["erased"], stats["offset"]) == (4, 2, 2, 4)
        assert (bench.value(), bench.lake.describe("lake.s").rows) == (2, 2)


def test_a_head_that_is_filled_later_passes_it_too(tmp_path: Path) -> None:
    """What the log says no more is in no head that is made from it."""
    bench = Bench(tmp_path)
    bench.append({"id": "1"}, {"id": "2"}, {"id": "3"})
    bench.processor.catch_up(3, 0)
    bench.log.erase({0: [0, 2]})
    bench.publish(FIRST)
    with closing(bench.again()):
        assert bench.value() == 1
