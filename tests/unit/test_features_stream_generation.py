"""The parts of a head: which versions have one, what its tail counts already, what it forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from features import Entity, FeatureView, Source, count
from features.algebra.view import ViewAlgebra
from features.keys import key_bytes
from features.offline.lake import source_table
from features.offline.memory import MemoryLake
from features.online.materialize import view_id
from features.online.store import Version
from features.stream.checkpoint import Checkpoint
from features.stream.generation import Generation, Progress
from features.stream.ids import id_digests
from features.stream.tail import TailIds
from features.stream.versions import is_retired, missing
from features.view_test import events_table

CUT = 1_000_000
SOURCE = Source("s", table="lake.s", stream="s", event_time="at", available_at="known",
                event_id="id", lateness=500, schema={"id": str, "k": str, "at": "time",
                                                     "known": "time"})  # fmt: skip
VIEW = FeatureView("v", entity=Entity("k", key="k"), source=SOURCE,
                   features={"n": count().over(12_000)})  # fmt: skip


def version(number: int, cut: int = CUT, snapshot: int = 0) -> Version:
    """A version of the view."""
    return Version(view_id(VIEW), number, cut, 1, snapshot)


def retired(one: Version, *published: Version, was_published: bool = False) -> bool:
    """Whether its head may go."""
    return is_retired(Progress(one, None, CUT, was_published), published)


def test_two_versions_are_read_and_one_may_be_in_the_making() -> None:
    """The current one and the one before, in whatever order they were made."""
    one, two, three = version(1), version(2), version(3)
    assert [retired(v, three, two, one) for v in (one, two, three)] == [True, False, False]
    assert [retired(v, one, three, two) for v in (one, two, three)] == [False, True, False]
    assert not retired(three, two, one)
    assert not retired(one)
    assert missing([three, two, one], {two}, 0) == [three]
    assert missing([three, two, one], {two}, 1) == []


def test_a_version_that_came_to_nothing_is_retired() -> None:
    """Another try at its number was published, or a later number; or it was dropped again."""
    assert retired(version(2), version(2, CUT + 1), version(1))
    assert retired(version(1), version(2))
    assert retired(version(3), version(2), was_published=True)


def test_a_tail_counts_what_was_available_before_its_cut() -> None:
    """As of its own snapshot, and only what counts at all."""
    lake = MemoryLake()
    lake.create(source_table(SOURCE))
    rows: list[dict[str, Any]] = [
        {"id": "before", "at": CUT - 1, "known": CUT - 1},
        {"id": "at the cut", "at": CUT - 1, "known": CUT},
        {"id": "late", "at": CUT - 900, "known": CUT - 1},
        {"id": "malformed", "at": None, "known": CUT - 1},
        {"id": None, "at": CUT - 1, "known": CUT - 1},
    ]
    snapshot = lake.append(SOURCE.table, events_table(SOURCE, rows))
    later = [{"id": "later", "at": CUT - 1, "known": CUT - 1}]
    lake.append(SOURCE.table, events_table(SOURCE, later))
    (digest,) = id_digests(events_table(SOURCE, rows[:1]).column("id"))
    tail_ids = TailIds(lake, SOURCE)
    assert tail_ids(version(1, CUT, snapshot)) == {digest}
    assert tail_ids(version(1, CUT, 0)) == frozenset()


def test_a_head_forgets_what_no_window_reaches(tmp_path: Path) -> None:
    """A cell does not grow with the time that passes."""
    algebra = ViewAlgebra(VIEW)
    sizes = []
    with Checkpoint(tmp_path) as checkpoint:
        generation = Generation(Progress(version(1), None, CUT), algebra, checkpoint)
        for start in range(CUT, CUT + 600_000, 30_000):
            rows = [{"id": None, "k": "a", "at": at, "known": at} for at in (start, start + 900)]
            events = events_table(SOURCE, rows)
            generation.add(list(algebra.rows(events)), events)
            settled = generation.settled()
            checkpoint.save(start, {generation.space: settled.states})
            generation.saved()
            assert [key for key, _ in settled.cells] == [key_bytes(["a"])]
            sizes.append((len(settled.cells[0][1]), len(settled.states[0][1])))
        assert generation.settled().cells == []
        assert generation.head(7).newest == start + 900
    assert len(set(sizes)) == 1
