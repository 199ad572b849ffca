"""The control plane's commands: everything that changes the catalog or Gallery goes through here.

One process holds it: the control actor while the platform is up, else the command line itself.
Arguments and answers are JSON-able data, so that both ways are the same call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.control.catalog import Catalog, Delete, Put
from app.control.dependents import dependents_of
from app.control.documents import (
    document_of,
    resource_data,
    resource_from,
    status_from,
)
from app.control.plan import Plan, plan
from app.control.resources import Resource, make
from app.errors import BadInput, Conflict
from training.gallery import Gallery, from_data, to_data

Data = dict[str, Any]
Rows = Callable[[], Mapping[str, int]]


class ControlService:
    """Answers commands by name; see ``COMMANDS``."""

    def __init__(self, catalog: Catalog, gallery: Gallery, rows: Rows) -> None:
        self._catalog = catalog
        self._gallery = gallery
        self._rows = rows

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """The answer to one command. Raises BadInput for a command that there is not."""
        handler = COMMANDS.get(command)
        if handler is None:
            raise BadInput(f"there is no command {command!r}", "Is the cluster of another version?")
        return handler(self, **arguments)

    def plan(self, resources: Sequence[Data], whole: Sequence[str]) -> Data:
        """What applying the resources would change."""
        return self._plan(resources, whole).data()

    def apply(self, resources: Sequence[Data], whole: Sequence[str], actor: str = "") -> Data:
        """Makes the resources so, all or none; returns what was changed."""
        planned = self._plan(resources, whole)
        self._catalog.write(planned.writes, actor)
        return planned.data()

    def delete(self, kind: str, name: str, actor: str = "") -> Data:
        """Removes a resource. Raises Conflict while others need it."""
        stored = self._catalog.get(kind, name)
        users = dependents_of(stored.resource, (s.resource for s in self._catalog.list()))
        if users:
            raise Conflict(f"{kind}/{name} is needed by {', '.join(users)}", "Delete those first.")
        self._catalog.write([Delete(kind, name, stored.version)], actor)
        return document_of(stored)

    def create_version(self, draft: Data) -> Data:
        """Numbers a model version."""
        return to_data(self._gallery.create(from_data(draft)))

    def move_alias(
        self,
        family: str,
        alias: str,
        to: int | None,
        expect: int | None,
        actor: str = "",
        reason: str = "",
    ) -> Data:
        """Moves an alias by compare-and-set."""
        moved = self._gallery.move_alias(family, alias, to, expect, actor=actor, reason=reason)
        return to_data(moved)

    def record_run(self, name: str, spec: Data, status: Data, project: str = "") -> Data:
        """Writes a run and where it stands."""
        resource = make("Run", name, spec, project=project)
        known = {s.resource.name: s.version for s in self._catalog.list("Run")}
        self._catalog.write([Put(resource, known.get(name, 0))], "run")
        stored = self._catalog.set_status("Run", name, status_from(status))
        return document_of(stored)

    def _plan(self, resources: Sequence[Data], whole: Sequence[str]) -> Plan:
        wanted = [resource_from(data) for data in resources]
        return plan(
            self._catalog.list(), wanted, whole_projects=frozenset(whole), rows=self._rows()
        )


COMMANDS: Mapping[str, Callable[..., Any]] = {
    "apply": ControlService.apply,
    "create_version": ControlService.create_version,
    "delete": ControlService.delete,
    "move_alias": ControlService.move_alias,
    "plan": ControlService.plan,
    "record_run": ControlService.record_run,
}


def apply_arguments(resources: Sequence[Resource], whole: Sequence[str]) -> Data:
    """The arguments of ``plan`` and ``apply``."""
    return {"resources": [resource_data(resource) for resource in resources], "whole": list(whole)}
