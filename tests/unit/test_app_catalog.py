"""The catalog: compare-and-set, all or nothing, one writer, and the history of it all."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.control.catalog import Catalog, Delete, Put
from app.control.resources import Condition, Resource, Status, make
from app.errors import Conflict, DamagedData, NotFound, Unavailable
from features.testing import ManualClock


def project(name: str, **more: str) -> Resource:
    """A project with nothing in it."""
    return make("Project", name, {}, **more)


@pytest.fixture
def clock() -> ManualClock:
    """A clock at one second."""
    return ManualClock(1_000_000)


@pytest.fixture
def catalog(tmp_path: Path, clock: ManualClock) -> Iterator[Catalog]:
    """An empty catalog with its writer."""
    with Catalog(tmp_path / "catalog.db", clock) as opened:
        yield opened


def test_generation_counts_meanings_and_version_counts_writes(
    catalog: Catalog, clock: ManualClock
) -> None:
    """Other words make a new version; only another meaning makes a new generation."""
    first = catalog.write([Put(project("p"), 0)])[0]
    clock.advance(5)
    words = catalog.write([Put(project("p", description="words"), first.version)])[0]
    moved = catalog.write([Put(make("Project", "p", {"tier": 1}), words.version)])[0]
    assert [(s.generation, s.version) for s in (first, words, moved)] == [(1, 1), (1, 2), (2, 3)]
    assert (moved.created_at, moved.updated_at) == (1_000_000, 1_000_005)
    assert catalog.get("Project", "p") == moved


def test_a_change_that_somebody_overtook_is_refused(catalog: Catalog) -> None:
    """A writer that planned on an older version gets Conflict and changes nothing."""
    catalog.write([Put(project("p"), 0)])
    for change in (Put(project("p"), 0), Put(project("p"), 2), Delete("Project", "p", 2)):
        with pytest.raises(Conflict, match="somebody changed it"):
            catalog.write([change])
    assert catalog.get("Project", "p").version == 1


def test_changes_are_made_together_or_not_at_all(catalog: Catalog) -> None:
    """If the last of several changes fails, the first was never made, nor told in the history."""
    with pytest.raises(Conflict):
        catalog.write([Put(project("a"), 0), Put(project("b"), 7)])
    assert catalog.list() == ()
    assert catalog.events() == ()


def test_what_is_not_there_is_told_with_what_is(catalog: Catalog) -> None:
    """NotFound names the nearest; deleting it is the same error."""
    catalog.write([Put(project("flights"), 0)])
    with pytest.raises(NotFound) as caught:
        catalog.get("Project", "flight")
    assert "flights" in caught.value.hint
    with pytest.raises(NotFound):
        catalog.write([Delete("Project", "flight", 1)])


def test_a_status_is_not_a_change_of_what_is_wanted(catalog: Catalog) -> None:
    """The platform's findings leave version and generation alone; a new phase is an event."""
    catalog.write([Put(project("p"), 0)], "me")
    ready = Status(1, "Steady", (Condition("Ready", True, "Steady", "m"),), {"n": 1})
    for _ in range(2):
        stored = catalog.set_status("Project", "p", ready)
    assert (stored.version, catalog.get("Project", "p").status) == (1, ready)
    told = [(e.action, e.actor) for e in catalog.events("Project", "p")]
    assert told == [("create", "me"), ("phase", "control")]


def test_a_resource_made_again_begins_anew(catalog: Catalog) -> None:
    """After a deletion nothing is left of the old one but its history."""
    catalog.write([Put(project("p"), 0)])
    catalog.set_status("Project", "p", Status(1, "Steady"))
    catalog.write([Delete("Project", "p", 1)])
    again = catalog.write([Put(project("p"), 0)])[0]
    assert (again.generation, again.version, again.status) == (1, 1, Status())
    actions = [event.action for event in catalog.events("Project", "p")]
    assert actions == ["create", "phase", "delete", "create"]


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path, clock: ManualClock) -> None:
    """One writer at a time; readers come and go beside it."""
    path = tmp_path / "catalog.db"
    with Catalog(path, clock, who="the first") as first:
        with pytest.raises(Conflict, match="the first"):
            Catalog(path, clock)
        first.write([Put(project("p"), 0)])
        with Catalog(path, clock, read_only=True) as reader:
            assert reader.get("Project", "p").version == 1
            with pytest.raises(Unavailable):
                reader.write([Put(project("q"), 0)])
    with Catalog(path, clock) as second:
        assert len(second.list("Project")) == 1


def test_a_catalog_that_was_never_written_reads_as_empty(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Looking creates nothing."""
    path = tmp_path / "control" / "catalog.db"
    with Catalog(path, clock, read_only=True) as reader:
        assert reader.list() == ()
    assert not path.parent.exists()


def test_threads_lose_no_change(catalog: Catalog) -> None:
    """Of writers in one process that race for a version, one wins each round and all go on."""
    catalog.write([Put(project("p"), 0)])

    def bump() -> None:
        done = 0
        while done < 10:
            version = catalog.get("Project", "p").version
            try:
                catalog.write([Put(project("p"), version)])
            except Conflict:
                continue
            done += 1

    threads = [threading.Thread(target=bump) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalog.get("Project", "p").version == 41


def test_a_damaged_row_is_told(tmp_path: Path, clock: ManualClock) -> None:
    """A row that is not what was written is an error that names the resource."""
    path = tmp_path / "catalog.db"
    with Catalog(path, clock) as catalog:
        catalog.write([Put(project("p"), 0)])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE resources SET resource = ?", (b"{}",))
    db.close()
    with Catalog(path, clock, read_only=True) as reader, pytest.raises(DamagedData, match="p"):
        reader.get("Project", "p")


def test_a_file_that_is_no_database_is_told(tmp_path: Path, clock: ManualClock) -> None:
    """Garbage where the catalog should be is Unavailable, and the lock is let go."""
    path = tmp_path / "catalog.db"
    path.write_bytes(b"garbage" * 1000)
    for _ in range(2):
        with pytest.raises(Unavailable, match="catalog"):
            Catalog(path, clock)
