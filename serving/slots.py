"""Model slots: what is served follows the desired state, and never gets worse on the way.

A new version is loaded and verified beside the old one, then both change places in one assignment.
If it is refused, the old version goes on and the status says why. The version before stays loaded,
so that a rollback needs no load.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from features.errors import TondoError
from serving.desired import DesiredModel, DesiredState
from serving.model import LoadedModel
from serving.predictor import Loaded, OnlineFeatures, Predictor

LoadModel = Callable[[DesiredModel], LoadedModel]
LoadService = Callable[[dict[str, Any]], OnlineFeatures]

_log = logging.getLogger("tondo.serving")


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One model's slot: what it should serve, what it serves, and why they differ if they do."""

    name: str
    wanted: int
    serving: int | None
    digest: str
    previous: int | None
    ready: bool
    reason: str = ""

    def data(self) -> dict[str, object]:
        """As JSON-able data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Slot:
    current: LoadedModel | None = None
    previous: LoadedModel | None = None
    reason: str = ""


class ModelSlots:
    """Makes a predictor serve a desired state; it blocks, so call it off the event loop."""

    def __init__(self, predictor: Predictor, load: LoadModel, load_service: LoadService) -> None:
        self._predictor = predictor
        self._load = load
        self._load_service = load_service
        self._applying = threading.Lock()
        self._desired = DesiredState(generation=-1)
        self._slots: Mapping[str, _Slot] = {}

    def apply(self, desired: DesiredState) -> list[SlotStatus]:
        """Loads, swaps and drops until the state is served; an older one changes nothing."""
        with self._applying:
            if desired.generation >= self._desired.generation:
                slots = {m.name: self._next(m) for m in desired.models}
                self._predictor.swap(self._loaded(slots, desired))
                self._slots, self._desired = slots, desired
            return self.status()

    def status(self) -> list[SlotStatus]:
        """Every desired model with what is really served."""
        return [_status(model, self._slots[model.name]) for model in self._desired.models]

    def _next(self, wanted: DesiredModel) -> _Slot:
        slot = self._slots.get(wanted.name, _Slot())
        if slot.current is not None and slot.current.digest == wanted.digest:
            return _Slot(_as(slot.current, wanted), slot.previous)
        if slot.previous is not None and slot.previous.digest == wanted.digest:
            return _Slot(_as(slot.previous, wanted), slot.current)
        try:
            return _Slot(_as(self._load(wanted), wanted), slot.current)
        except Exception as error:
            _log.error("model refused", exc_info=error, extra={"model": wanted.name})
            return replace(slot, reason=_reason(error))

    def _loaded(self, slots: Mapping[str, _Slot], desired: DesiredState) -> Loaded:
        models = {name: slot.current for name, slot in slots.items() if slot.current is not None}
        services = {m.plan.service: OnlineFeatures(m.plan, m.reader) for m in models.values()}
        for data in desired.services:
            service = self._load_service(data)
            services.setdefault(service.plan.service, service)
        return Loaded(models, services)


def _as(model: LoadedModel, wanted: DesiredModel) -> LoadedModel:
    version = replace(model.version, version=wanted.version, arm=wanted.arm)
    return model if version == model.version else replace(model, version=version)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TondoError) else f"{type(error).__name__}: {error}"


def _status(wanted: DesiredModel, slot: _Slot) -> SlotStatus:
    current, previous = slot.current, slot.previous
    return SlotStatus(
        name=wanted.name,
        wanted=wanted.version,
        serving=current.version.version if current else None,
        digest=current.digest if current else "",
        previous=previous.version.version if previous else None,
        ready=current is not None and current.digest == wanted.digest,
        reason=slot.reason,
    )
