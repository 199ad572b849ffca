"""The control actor: a thread that steps the control plane, and its single writer's front door.

The actor has no opinion: what a step does, and what may be asked, is the plane's business. A step
that fails is counted and told, and the next one begins as if nothing had happened.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import ray
from ray.util import metrics

from serving.logs import log_as_json

NAME = "tondo:control"
NAMESPACE = "tondo"

_log = logging.getLogger("tondo.control")


class Plane(Protocol):
    """The control plane as this actor carries it."""

    def step(self) -> Mapping[str, int]:
        """Looks and acts until nothing is left to do; returns actions done by kind."""
        ...

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Answers a command."""
        ...

    def close(self) -> None:
        """Lets go of everything that it holds."""
        ...


BuildPlane = Callable[[], Plane]


class ControlActor:
    """Steps on events and at intervals; answers commands meanwhile."""

    def __init__(self, build: BuildPlane, interval_s: float = 2.0) -> None:
        log_as_json(_log)
        self._plane = build()
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._steps = self._failures = 0
        self._last_failure = ""
        self._actions = metrics.Counter(
            "tondo_reconcile_actions_total",
            description="Actions of the control loop, by kind.",
            tag_keys=("action",),
        )
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread.start()

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """The plane's answer; whatever it changed is acted upon at once."""
        answer = self._plane.ask(command, arguments)
        self._wake.set()
        return answer

    def wake(self) -> None:
        """Asks for a step now."""
        self._wake.set()

    def status(self) -> dict[str, Any]:
        """How the loop is doing."""
        return {
            "pid": os.getpid(),
            "steps": self._steps,
            "failures": self._failures,
            "last_failure": self._last_failure,
            "stepping": self._thread.is_alive(),
        }

    def stop(self) -> None:
        """Ends the loop after the step in progress and closes the plane."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=30)
        self._plane.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._step()
            self._wake.wait(self._interval_s)

    def _step(self) -> None:
        started = time.monotonic()
        try:
            for action, count in self._plane.step().items():
                self._actions.inc(count, {"action": action})
        except Exception as error:
            self._failures += 1
            self._last_failure = "".join(traceback.format_exception_only(error)).strip()
            took = round(time.monotonic() - started, 3)
            _log.error("step failed", exc_info=error, extra={"seconds": took})
        self._steps += 1


def start_control(build: BuildPlane, *, interval_s: float) -> Any:
    """The running control actor's handle, started if there is none; it is restarted for ever."""
    actor = ray.remote(ControlActor)
    return actor.options(
        name=NAME,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        max_concurrency=16,
    ).remote(build, interval_s)
