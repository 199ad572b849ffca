"""A predictor replica put together from this installation's stores, inside its own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.compose import Platform, platform_at
from features.clock import SystemClock
from features.durations import SECOND
from features.online.reader import FeatureReader
from features.online.store import OnlineStore
from features.plan import ServicePlan
from features.serial import from_data
from serving.access import FileKeys, KeyCheck, OpenAccess
from serving.desired import DesiredModel
from serving.http import PredictionApp
from serving.model import LoadedModel, Version
from serving.monitoring.metrics import BatchedMetrics, MetricsExporter
from serving.plan import request_shape
from serving.prediction_log import BufferedLog
from serving.predictor import OnlineFeatures, Predictor
from serving.replica import Replica
from serving.slots import ModelSlots
from serving.spool import SpoolSink
from training.package import load_package


class Loader:
    """Loads models and feature services; every reader of a process shares one store."""

    def __init__(self, store: OnlineStore, cache_us: int) -> None:
        self._store = store
        self._cache_us = cache_us

    def model(self, wanted: DesiredModel) -> LoadedModel:
        """A verified package with its runtime, warm. Raises NotFound or DamagedData."""
        package = load_package(Path(wanted.path), wanted.digest)
        runtime = package.open_runtime()
        package.warm(runtime)
        return LoadedModel(
            Version(package.manifest.family, wanted.version, wanted.arm),
            wanted.digest,
            request_shape(package.plan),
            self._reader(package.plan),
            package.prepare,
            runtime,
        )

    def service(self, data: dict[str, Any]) -> OnlineFeatures:
        """A feature service from its plan as data."""
        plan: ServicePlan = from_data(data)
        return OnlineFeatures(request_shape(plan), self._reader(plan))

    def _reader(self, plan: ServicePlan) -> FeatureReader:
        return FeatureReader(plan, self._store, cache_us=self._cache_us, clock=SystemClock())


def build_replica(home: str) -> Replica:
    """A replica of the installation at ``home``; Serve calls this in the replica's process."""
    from serving.on_ray import RayExporter

    return make_replica(platform_at(Path(home)), RayExporter())


def make_replica(platform: Platform, exporter: MetricsExporter) -> Replica:
    """A replica whose metrics go to ``exporter``."""
    settings, home = platform.settings, platform.home
    loader = Loader(platform.online(), int(settings.online.cache_s * SECOND))
    metrics = BatchedMetrics(exporter)
    log = BufferedLog(SpoolSink(home.spool), rate=settings.serving.log_rate)
    predictor = Predictor(platform.clock, log, metrics)
    return Replica(
        predictor=predictor,
        slots=ModelSlots(predictor, loader.model, loader.service),
        app=PredictionApp(predictor, _keys(platform), metrics),
        log=log,
        metrics=metrics,
        state_file=home.serving_state,
    )


def _keys(platform: Platform) -> KeyCheck:
    if platform.settings.http.auth == "off":
        return OpenAccess()
    return FileKeys(platform.home.keys, platform.clock)
