"""Memory is that of all processes together, and the peak is the most that was seen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.demo.memory import PeakMemory, bytes_of

MEBIBYTES = 1 << 20
HOLD = "held = b'x' * (64 << 20); print('ready', flush=True); input()"


@contextmanager
def child_that_holds_memory() -> Iterator[subprocess.Popen[str]]:
    """A process that holds 64 MiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.communicate("\n")


def test_children_count_and_the_peak_stays(tmp_path: Path) -> None:
    """What a child holds counts while it lives, and in the peak for ever."""
    memory = PeakMemory(tmp_path / "cluster.json")
    before = memory.look()
    with child_that_holds_memory():
        during = memory.look()
    assert before > 0
    assert during > before + 60 * MEBIBYTES
    assert memory.look() < during
    assert memory.peak == during


def test_the_thread_looks_by_itself_and_ends(tmp_path: Path) -> None:
    """Inside the block somebody looks; outside nobody does."""
    with PeakMemory(tmp_path / "cluster.json", interval_s=0.001) as memory:
        while not memory.peak:
            pass
    assert memory.peak > 0


def test_a_process_that_is_gone_holds_nothing() -> None:
    """A process may end between being found and being looked at."""
    with child_that_holds_memory() as process:
        gone = psutil.Process(process.pid)
    assert bytes_of([gone]) == 0
