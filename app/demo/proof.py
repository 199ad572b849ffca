"""No skew: what was served is recomputed offline from the same events, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app import online_jobs
from app.demo.stage import SERVICE, Stage

MUST_HAVE = ("rows", "values", "mismatches", "differences_at_q")


@dataclass(frozen=True, slots=True)
class Proven:
    """Rows and values compared at the positions they were served from, and what differed.

    ``differences_at_q`` is freshness, not a bug: what the request's own time would have given.
    ``gap`` has statistics of the time from position to request, µs.
    """

    rows: int
    values: int
    mismatches: int
    differences_at_q: int
    gap: Mapping[str, float]
    landed: Mapping[str, int]

    @property
    def held(self) -> bool:
        """Something was compared, and all of it was equal."""
        return self.values > 0 and self.mismatches == 0

    @property
    def lines(self) -> tuple[str, ...]:
        """Counts, and the gap."""
        gap = ", ".join(f"{name} {value / 1e3:,.1f} ms" for name, value in self.gap.items())
        return (
            f"{self.values:,} served values of {self.rows:,} predictions recomputed offline at "
            f"their position: {self.mismatches} mismatches",
            f"as of the request's own time {self.differences_at_q:,} would differ",
            *([f"gap from position to request: {gap}"] if gap else []),
        )


def prove(stage: Stage) -> Proven:
    """Lands the streams and the prediction log in the lake, then runs ``tondo features check``."""
    stage.advance("landing streams and predictions", 0, 0)
    library = stage.platform.library()
    landed = online_jobs.land(stage.platform, library)
    done = online_jobs.check(stage.platform, library, SERVICE, stage.advance)
    return proven(done, landed)


def proven(done: Mapping[str, Any], landed: Mapping[str, int]) -> Proven:
    """What the check said."""
    numbers = {name: int(done[name]) for name in MUST_HAVE}
    gap = {name: float(value) for name, value in done["gap"].items() if value is not None}
    return Proven(**numbers, gap=gap, landed=landed)
