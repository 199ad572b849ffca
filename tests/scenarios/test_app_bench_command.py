"""``tondo bench`` from the command line: runs, compares every value, writes its numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_join_is_measured_beside_duckdb(tmp_path: Path) -> None:
    """A year of flights and made data, every value equal; the ratios that the surface promises."""
    command = ["bench", "point-in-time", "--size", "20000", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == json.loads(done.stdout)
    assert found["name"] == "point-in-time"
    assert {"time_vs_duckdb", "windowed_time_vs_duckdb", "flights_time_vs_duckdb"} <= set(
        found["ratios"]
    )
    assert {"rows_per_s", "peak_memory_bytes"} <= set(found["values"])
    assert found["values"]["flights_mismatches"] == 0
    assert found["values"]["flights_values_compared"] > 9_000_000
