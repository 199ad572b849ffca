"""A server as a child process: it ends with the tests, whatever ends them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

_PR_SET_PDEATHSIG = 1
_PAUSE_SECONDS = 0.05


def _end_with_parent() -> None:
    """Runs in the child: the kernel kills it when the thread that started it is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess:
    """A command that runs with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, folder: Path) -> None:
        self.log = log
        self._command = list(command)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, is_ready: Callable[[], bool], seconds: float) -> None:
        """Starts the command and returns when it is ready; raises if it ends or takes longer."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent if os.name == "posix" else None,
                start_new_session=True,
            )
        end = time.monotonic() + seconds
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                tail = self.log.read_text(errors="replace")[-3_000:]
                raise RuntimeError(f"{self._command[0]} did not start:\n{tail}")
            _pause()

    def kill(self) -> None:
        """Ends the process as a crash would: without a chance to write anything."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stops the process: its connections stay open and nobody answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a stopped process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None


def missing(what: str, how: str) -> None:
    """Skips the test for want of a server; where ``CI`` is set, that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not here, and CI must have it: {how}")
    pytest.skip(f"{what} is not here: {how}")


def _pause() -> None:
    time.sleep(_PAUSE_SECONDS)
