"""Resources as JSON documents: the shape that people, scripts and the database see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.control.resources import API_VERSION, Condition, Resource, Status, Stored
from app.moments import written as iso_time

Data = dict[str, Any]


def document_of(stored: Stored) -> Data:
    """A stored resource as ``tondo get -o json`` shows it."""
    resource = stored.resource
    return {
        "apiVersion": API_VERSION,
        "kind": resource.kind,
        "metadata": {
            **_about(resource),
            "generation": stored.generation,
            "resourceVersion": stored.version,
            "createdAt": iso_time(stored.created_at),
            "updatedAt": iso_time(stored.updated_at),
        },
        "spec": _spec(resource),
        "status": status_document(stored.status),
    }


def status_document(status: Status) -> Data:
    """A status in the fields that people read."""
    return {
        "observedGeneration": status.observed_generation,
        "phase": status.phase,
        "conditions": [_condition(condition) for condition in status.conditions],
        **status.detail,
    }


def _about(resource: Resource) -> Data:
    return {
        "name": resource.name,
        "project": resource.project,
        "owner": resource.owner,
        "description": resource.description,
        "labels": dict(resource.labels),
        "origin": resource.origin,
        "fingerprint": resource.fingerprint,
    }


def _spec(resource: Resource) -> Data:
    definition = resource.spec.get("definition")
    return dict(definition) if isinstance(definition, Mapping) else dict(resource.spec)


def _condition(condition: Condition) -> Data:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "operatorMessage": condition.operator_message,
        "hint": condition.hint,
        "lastTransitionTime": iso_time(condition.at) if condition.at else None,
    }


def resource_data(resource: Resource) -> Data:
    """A resource as data, to be read back by ``resource_from``."""
    return {name: getattr(resource, name) for name in _RESOURCE}


def resource_from(data: Mapping[str, Any]) -> Resource:
    """Back from ``resource_data``."""
    return Resource(**data)


def status_data(status: Status) -> Data:
    """A status as data, to be read back by ``status_from``."""
    return {
        "observed_generation": status.observed_generation,
        "phase": status.phase,
        "conditions": [{n: getattr(c, n) for n in _CONDITION} for c in status.conditions],
        "detail": dict(status.detail),
    }


def status_from(data: Mapping[str, Any]) -> Status:
    """Back from ``status_data``."""
    conditions = tuple(Condition(**condition) for condition in data["conditions"])
    return Status(data["observed_generation"], data["phase"], conditions, data["detail"])


_RESOURCE = tuple(Resource.__dataclass_fields__)
_CONDITION = tuple(Condition.__dataclass_fields__)
