"""``tondo features ingest --stream``: files through the event log, without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.compose import Platform
from app.control.catalog import Put
from app.control.resources import of_definition
from app.errors import BadInput, Conflict, NotFound
from app.settings import load_settings
from app.stream_jobs import ingest_stream
from app.streams import streamed_source, views_of
from features import Entity, FeatureView, Source, count
from features.keys import key_bytes
from features.library import Library
from features.online.materialize import view_id
from features.online.store import Version

DEFINITIONS = '''"""A streamed source."""

from features import Source

taps = Source(
    "taps",
    table="lake.taps",
    stream="taps",
    event_time="at",
    available_at="known",
    event_id="id",
    lateness=3_600_000_000,
    partitions=2,
    bucket_by="card",
    schema={"id": str, "card": str, "at": "time", "known": "time"},
)
'''
TAPS = Source("taps", table="lake.taps", stream="taps", event_time="at", available_at="known",
              event_id="id", partitions=2, bucket_by="card",
              schema={"id": str, "card": str, "at": "time", "known": "time"})  # fmt: skip
CARD = Entity("card", key="card")
VIEW = FeatureView("tapping", entity=CARD, source=TAPS, features={"n": count()})


def write(path: Path, *rows: str) -> Path:
    """A CSV file of taps."""
    path.write_text("id,card,at,known\n" + "".join(f"{row}\n" for row in rows))
    return path


def taps(count_: int, time: str = "2026-01-01T00:00Z") -> list[str]:
    """Rows of a few cards."""
    return [f"i{i},c{i % 4},{time}," for i in range(count_)]


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """An installation without a cluster."""
    return Platform(load_settings().model_copy(update={"home": tmp_path / "h"}))


def ingest(platform: Platform, *files: Path, again: bool = False, source: Source = TAPS) -> Any:
    """Files through the stream."""
    return ingest_stream(platform, source, files, again, lambda *step: None)


def test_rows_are_in_the_lake_when_the_command_returns(platform: Platform, tmp_path: Path) -> None:
    """In both partitions, each id once, with what could not enter told and kept."""
    path = write(tmp_path / "a.csv", *taps(10), "i3,c3,2026-01-01T00:00Z,", "x,c1,,",
                 "y,c1,2026-01-01T00:00Z,2999-01-01T00:00Z")  # fmt: skip
    done = ingest(platform, path)
    assert (done["rows"], done["malformed"], done["refused"]) == (10, 1, 1)
    assert (done["duplicates"], done["late"], done["nothingToDo"]) == (1, 0, False)
    assert done["snapshot"] == platform.lake().describe("lake.taps").snapshot
    assert set(platform.lake().scan("lake.taps").column("__partition").to_pylist()) == {0, 1}
    assert platform.lake().describe("lake.taps_dead_letters").rows == 2
    again = ingest(platform, path)
    assert (again["nothingToDo"], again["rows"], again["skipped"]) == (True, 0, [str(path)])
    forced = ingest(platform, path, again=True)
    assert (forced["nothingToDo"], forced["rows"], forced["duplicates"]) == (False, 0, 11)
    assert platform.lake().describe("lake.taps").rows == 10


def test_late_events_are_told(platform: Platform, tmp_path: Path) -> None:
    """They happened longer before their append than the source allows."""
    late = Source("taps", table="lake.taps", stream="taps", event_time="at", available_at="known",
                  lateness=1_000_000, partitions=1, schema=dict(TAPS.columns))  # fmt: skip
    done = ingest(platform, write(tmp_path / "a.csv", *taps(3)), source=late)
    assert (done["rows"], done["late"], done["snapshot"]) == (0, 3, None)


def test_what_is_online_has_it_at_once(platform: Platform, tmp_path: Path) -> None:
    """Applied views of the source are brought up to date on the way."""
    with platform.catalog_writer("a test") as catalog:
        catalog.write([Put(of_definition(one), 0) for one in (CARD, TAPS, VIEW)])
    store = platform.online()
    version = Version(view_id(VIEW), 1, 0, 2, 0)
    store.write_tail(version, [])
    store.publish(version)
    ingest(platform, write(tmp_path / "a.csv", *taps(10)))
    keys = [(view_id(VIEW), key_bytes([f"c{i}"]) or b"") for i in range(4)]
    found = store.read(keys, platform.clock.now())
    assert [sum(cell is not None for cell in one.heads) for one in found] == [1, 1, 1, 1]
    assert sum(position.offset for position in found[0].positions) == 10


def test_a_source_without_a_stream_is_refused(platform: Platform, tmp_path: Path) -> None:
    """And so is a stream of nobody, or of two."""
    plain = Source("p", table="lake.p", event_time="at", schema={"at": "time"})
    with pytest.raises(BadInput, match="no stream"):
        ingest(platform, write(tmp_path / "a.csv"), source=plain)
    twin = Source("twin", table="lake.twin", stream="taps", event_time="at",
                  available_at="known", schema={"at": "time", "known": "time"})  # fmt: skip
    library = Library.from_definitions([TAPS, VIEW])
    assert streamed_source(library, "taps") == TAPS
    assert views_of(library, TAPS) == [VIEW]
    with pytest.raises(NotFound, match="no source has the stream 'tap'"):
        streamed_source(library, "tap")
    with pytest.raises(Conflict, match="taps, twin"):
        streamed_source(Library.from_definitions([TAPS, twin]), "taps")


def test_the_command_line_streams_a_file(tondo: Callable[..., Any], tmp_path: Path) -> None:
    """It says what entered and what did not."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "definitions.py").write_text(DEFINITIONS)
    path = write(tmp_path / "a.csv", *taps(2), "x,c1,,", "y,c2,2020-01-01T00:00Z,")
    ran = tondo("features", "ingest", "taps", path, "--stream", "--project", folder)
    assert ran.code == 0, ran.err
    assert "3 too late" in ran.out
    assert "1 malformed" in ran.out
