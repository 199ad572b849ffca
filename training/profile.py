"""What a prediction of a package costs, measured when it is made."""

from __future__ import annotations

import statistics
import time

from training.package import Package
from training.package.digest import files_of
from training.package.samples import rows_of

_TRIES = 200


def profile_of(package: Package) -> dict[str, float]:
    """Microseconds of one row (median, matrix included), and the package's bytes."""
    rows = rows_of(package.plan, package.samples().slice(0, _TRIES))
    runtime = package.open_runtime()
    package.warm(runtime)
    spent = []
    for row in rows:
        started = time.perf_counter_ns()
        runtime.predict(package.prepare([row]))
        spent.append(time.perf_counter_ns() - started)
    size = sum(file.stat().st_size for file in files_of(package.path))
    return {"row_us": statistics.median(spent) / 1e3, "package_bytes": float(size)}
