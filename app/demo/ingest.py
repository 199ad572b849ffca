"""Real flights into the lake, and definitions into the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.client import control, whoami
from app.control.service import apply_arguments
from app.demo.stage import PROJECT, SOURCES, Stage
from app.lifecycle.cluster import connect
from app.project import load_path
from examples.flights.prepare import write_sources
from features.offline.ingest import IngestReport


@dataclass(frozen=True, slots=True)
class Defined:
    """What the project holds, and how much of it was new or changed."""

    resources: int
    changed: int

    @property
    def held(self) -> bool:
        """There is a project."""
        return self.resources > 0

    @property
    def lines(self) -> tuple[str, ...]:
        """Counts."""
        told = f"{self.changed} new or changed" if self.changed else "nothing to do, all applied"
        return (f"{self.resources} definitions and resources of examples/flights: {told}",)


@dataclass(frozen=True, slots=True)
class Ingested:
    """Rows by lake table, as they are now and as they were added by this run."""

    rows: Mapping[str, int]
    added: Mapping[str, int]
    refused: int
    malformed: int

    @property
    def held(self) -> bool:
        """Every table has rows, and no row was lost on the way."""
        return all(self.rows.values()) and not (self.refused or self.malformed)

    @property
    def lines(self) -> tuple[str, ...]:
        """Rows of every table."""
        tables = ", ".join(f"{name} {count:,}" for name, count in self.rows.items())
        new = sum(self.added.values())
        told = f"{new:,} rows by Ray Data" if new else "nothing to do: the files are in already"
        lost = self.refused + self.malformed
        return (told, tables, *([f"{lost:,} rows were refused"] if lost else []))


def define(stage: Stage) -> Defined:
    """Applies the project, as ``tondo apply examples/flights`` does."""
    loaded = load_path(PROJECT)
    arguments = apply_arguments(loaded.resources, [loaded.project])
    with control(stage.platform, "tondo demo") as commands:
        done = commands.ask("apply", {**arguments, "actor": whoami()})
    changed = [c for c in done["changes"] if c["action"] != "unchanged"]
    return Defined(len(loaded.resources), len(changed))


def ingest(stage: Stage) -> Ingested:
    """Writes the example's files and takes them in, each table in one snapshot, on Ray Data."""
    stage.advance("prepare the flights of 2013", 0, 0)
    files = write_sources(stage.sources)
    connect(stage.cluster())
    lake, library = stage.platform.lake(), stage.platform.library()
    reports = {name: _ingested(stage, name, files[name]) for name in SOURCES}
    return Ingested(
        rows={name: lake.describe(library.source(name).table).rows for name in SOURCES},
        added={name: report.rows for name, report in reports.items()},
        refused=sum(report.refused for report in reports.values()),
        malformed=sum(report.malformed for report in reports.values()),
    )


def _ingested(stage: Stage, name: str, file: object) -> IngestReport:
    from features.on_ray import ingest_on_ray

    platform = stage.platform
    source = platform.library().source(name)
    return ingest_on_ray(
        platform.home.lake,
        source,
        [str(file)],
        clock=platform.clock,
        progress=stage.advance,
    )
