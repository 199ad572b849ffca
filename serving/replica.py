"""One replica, put together from its ports; Ray, tests and benchmarks start the same one."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path

from features.errors import DamagedData
from serving.desired import DesiredState, load_state, save_state
from serving.http import PredictionApp
from serving.monitoring.metrics import BatchedMetrics
from serving.prediction_log import BufferedLog, LogCounts
from serving.predictor import Predictor
from serving.slots import ModelSlots, SlotStatus

_log = logging.getLogger("tondo.serving")


@dataclass(slots=True)
class Replica:
    """A predictor with its slots, its log, its metrics and its HTTP application."""

    predictor: Predictor
    slots: ModelSlots
    app: PredictionApp
    log: BufferedLog
    metrics: BatchedMetrics
    state_file: Path
    _stop_metrics: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Serves what the state file says, and starts writing the log and the metrics.

        A damaged state file is reported and left alone: the replica then waits for a push.
        """
        self.log.start()
        self._stop_metrics = self.metrics.start()
        try:
            state = load_state(self.state_file)
        except DamagedData as error:
            _log.error("desired state not read", exc_info=error)
            return
        if state is not None:
            self.slots.apply(state)

    def set_models(self, desired: DesiredState) -> list[SlotStatus]:
        """Serves a desired state and keeps it on disk for the next start."""
        statuses = self.slots.apply(desired)
        save_state(self.state_file, desired)
        return statuses

    def flush(self) -> LogCounts:
        """Writes everything logged so far to the sink, and the metrics to their exporter."""
        self.metrics.flush()
        return self.log.flush()

    def close(self) -> None:
        """Ends the background threads and writes what is left."""
        self._stop_metrics.set()
        self.log.close()
