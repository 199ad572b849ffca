"""What the feature commands do: each one is a call into the feature store with chosen ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.compose import Platform
from app.errors import BadInput
from features.library import Library
from features.naming import did_you_mean
from features.offline.ingest import IngestReport, ingest
from features.offline.join import join_local
from features.plan import ServicePlan, resolve
from features.sources import Source

Advance = Callable[[str, int, int], None]
Data = dict[str, Any]


def plan_of(platform: Platform, library: Library, refs: str) -> ServicePlan:
    """The plan of a service or of ``view:feature,…``."""
    return resolve(library, refs)


def ingest_files(
    platform: Platform, source: Source, files: Sequence[Path], again: bool, advance: Advance
) -> Data:
    """Puts files into the source's lake table, in this process."""
    done = ingest(
        platform.lake(), source, files, again=again, clock=platform.clock, progress=advance
    )
    return _ingested(done)


def join(
    platform: Platform,
    plan: ServicePlan,
    spine: Path,
    time_column: str,
    inclusive: bool,
    out: Path,
    advance: Advance,
) -> Data:
    """Joins a spine in this process; the same answer as on Ray."""
    done = join_local(
        plan,
        platform.lake(),
        spine,
        out,
        time_column=time_column,
        inclusive=inclusive,
        progress=advance,
    )
    return {
        "out": done.out,
        "rows": done.rows,
        "features": len(plan.outputs),
        "seconds": done.seconds,
        "snapshots": dict(done.snapshots),
    }


def request_row(
    plan: ServicePlan, keys: Mapping[str, str], fields: Mapping[str, str]
) -> dict[str, Any]:
    """Keys and request fields, given as text, in the types that the plan declares."""
    from app.surface.session import typed_value

    given = (
        ("entity key", keys, plan.key_columns),
        ("request field", fields, plan.request_columns),
    )
    row: dict[str, Any] = {}
    for kind, texts, dtypes in given:
        for name in texts:
            if name not in dtypes:
                hint = did_you_mean(name, dtypes, f"{kind}s")
                raise BadInput(f"{plan.name} has no {kind} {name!r}", hint)
        row |= {n: typed_value(n, t, dtypes[n]) for n, t in texts.items()}
    return row


def _ingested(done: IngestReport) -> Data:
    return {
        "table": done.table,
        "rows": done.rows,
        "refused": done.refused,
        "malformed": done.malformed,
        "snapshot": done.snapshot,
        "nothingToDo": done.nothing_to_do,
        "skipped": list(done.skipped),
        "ignored": list(done.ignored),
    }
