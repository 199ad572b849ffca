"""The one handler of the prediction service; HTTP, the Ray handle and tests are shells round it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Protocol

from features.clock import Clock
from serving.degradation import Degradation, degradation_of
from serving.errors import NotFound, UnknownModel
from serving.explain import provenance
from serving.fields import near_names
from serving.model import LoadedModel, Reader, Scored
from serving.plan import RequestShape
from serving.prediction_log import Entry
from serving.requests import read_request


class PredictionLog(Protocol):
    """Takes what was answered; never blocks and never raises."""

    def record(self, entry: Entry) -> None:
        """Keeps an answer for the lake, or counts it as dropped."""
        ...


class Metrics(Protocol):
    """Counts what was answered; one call a request."""

    def answered(self, route: str, status: int, latency_us: float) -> None:
        """One request was answered."""
        ...

    def states(self, states: list[str]) -> None:
        """One row of features was read in these states."""
        ...


@dataclass(frozen=True, slots=True)
class OnlineFeatures:
    """A feature service ready to be read without a model."""

    plan: RequestShape
    reader: Reader


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything a replica serves at one moment; replaced as a whole, never changed."""

    models: Mapping[str, LoadedModel]
    services: Mapping[str, OnlineFeatures]


NOTHING_LOADED = Loaded({}, {})


class Predictor:
    """Answers predictions and feature reads from what is loaded at the moment a request starts.

    ``swap`` replaces what is loaded; a request in flight finishes with what it started with.
    """

    def __init__(self, clock: Clock, log: PredictionLog, metrics: Metrics) -> None:
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._loaded = NOTHING_LOADED

    @property
    def loaded(self) -> Loaded:
        """What is being served now."""
        return self._loaded

    def swap(self, loaded: Loaded) -> None:
        """Serves something else from the next request on."""
        self._loaded = loaded

    def predict(
        self, name: str, body: object, request_id: str, *, explain: bool = False
    ) -> dict[str, object]:
        """The native answer to a native body.

        Raises UnknownModel, and BadInput with the reason for a body that does not fit.
        """
        started = perf_counter_ns()
        model = self._model(name)
        request = read_request(body)
        rows = model.plan.rows(request)
        now = self._clock.now()
        q = model.plan.time(request, now)
        scored = model.score(rows, q)
        latency_us = (perf_counter_ns() - started) // 1_000
        self._log.record(Entry(request_id, model, rows, q, now, scored, latency_us))
        for served in scored.served:
            self._metrics.states(served.states)
        return _answer(model, scored, q, request_id, explain)

    def features(
        self, name: str, body: object, request_id: str, *, explain: bool = False
    ) -> dict[str, object]:
        """Online features of a service for a native body; raises NotFound and BadInput."""
        service = self._service(name)
        request = read_request(body)
        rows = service.plan.rows(request)
        q = service.plan.time(request, self._clock.now())
        served = service.reader.read(rows, [q] * len(rows))
        answers = [_features_row(service.plan, row, q, explain) for row in served]
        for row in served:
            self._metrics.states(row.states)
        return {
            "service": name,
            "rows": answers,
            "degradation": degradation_of(service.plan.outputs, served).data(),
            "request_id": request_id,
        }

    def models(self) -> list[dict[str, object]]:
        """What is served: name, version, digest, service, and what a request must carry."""
        return [_description(name, model) for name, model in sorted(self._loaded.models.items())]

    def _model(self, name: str) -> LoadedModel:
        try:
            return self._loaded.models[name]
        except KeyError:
            hint = near_names(name, list(self._loaded.models))
            raise UnknownModel(f"model {name!r} is not served here", hint) from None

    def _service(self, name: str) -> OnlineFeatures:
        try:
            return self._loaded.services[name]
        except KeyError:
            hint = near_names(name, list(self._loaded.services))
            raise NotFound(f"feature service {name!r} is not served here", hint) from None


def _answer(
    model: LoadedModel, scored: Scored, q: int, request_id: str, explain: bool
) -> dict[str, object]:
    answer: dict[str, object] = {
        "predictions": scored.predictions,
        "model": model.version.data(),
        "degradation": scored.degradation.data(),
        "request_id": request_id,
    }
    if explain:
        answer["provenance"] = [provenance(model.plan, row, q) for row in scored.served]
    return answer


def _features_row(plan: RequestShape, row: object, q: int, explain: bool) -> dict[str, object]:
    answer: dict[str, object] = {
        "values": plan.named(row.values),  # type: ignore[attr-defined]
        "states": dict(zip(plan.outputs, row.states, strict=True)),  # type: ignore[attr-defined]
    }
    if explain:
        answer["provenance"] = provenance(plan, row, q)  # type: ignore[arg-type]
    return answer


def _description(name: str, model: LoadedModel) -> dict[str, object]:
    return {
        "name": name,
        **model.version.data(),
        "digest": model.digest,
        "service": model.plan.service,
        "entities": {key.name: key.dtype for key in model.plan.keys},
        "request": {field.name: field.dtype for field in model.plan.fields},
    }


__all__ = [
    "NOTHING_LOADED",
    "Degradation",
    "Loaded",
    "Metrics",
    "OnlineFeatures",
    "PredictionLog",
    "Predictor",
]
