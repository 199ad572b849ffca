"""The platform comes up, unless it is up already."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.demo.memory import bytes_of
from app.demo.report import gigabytes
from app.demo.stage import FAMILY, Stage
from app.lifecycle.processes import processes_of
from app.lifecycle.up import up


@dataclass(frozen=True, slots=True)
class Up:
    """The platform as it was found or started; ``began`` is on the monotonic clock, s."""

    found_running: bool
    seconds: float
    began: float
    idle_bytes: int
    processes: int
    dashboard: str
    http: str

    @property
    def held(self) -> bool:
        """It is up, or an error would have been raised."""
        return True

    @property
    def lines(self) -> tuple[str, ...]:
        """Where it listens, and what it takes while nobody asks anything of it."""
        came = "was up already" if self.found_running else f"came up in {self.seconds:.1f} s"
        idle = f"idle: {self.processes} processes, {gigabytes(self.idle_bytes)}"
        return (f"Ray, Serve behind HAProxy and the control loop: {came}", idle, self._where)

    @property
    def _where(self) -> str:
        return f"predictions at {self.http}, dashboard at {self.dashboard}"


def bring_up(stage: Stage) -> Up:
    """Starts what does not run; see ``tondo up``."""
    found_running, began = stage.platform.cluster() is not None, time.monotonic()
    up(stage.platform, None, stage.advance)
    seconds, cluster = time.monotonic() - began, stage.cluster()
    processes = processes_of(cluster)
    return Up(
        found_running=found_running,
        seconds=seconds,
        began=began,
        idle_bytes=bytes_of(processes),
        processes=len(processes),
        dashboard=cluster.dashboard,
        http=cluster.http,
    )


def champion_of(stage: Stage) -> int | None:
    """The number of the version that is champion, if any is."""
    from app.training_jobs import CHAMPION
    from training.gallery import aliases_of

    with stage.platform.gallery() as gallery:
        return aliases_of(gallery.history(FAMILY)).get(CHAMPION)
