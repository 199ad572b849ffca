"""``tondo plan, apply, get, describe, delete, wait, why``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.control.documents import document_of
from app.control.resources import KINDS, kind_of
from app.errors import Unavailable, Usage
from app.moments import written
from app.surface.output import (
    Output,
    OutputOption,
    as_yaml,
    confirm,
    note,
    say,
    show_list,
    show_one,
)
from app.surface.session import platform, usage

if TYPE_CHECKING:
    from app.control.catalog import Event
    from app.control.resources import Resource, Stored

_MARKS = {"create": "+", "meaning": "~", "text": "=", "delete": "-", "unchanged": " "}
_MEANS = {
    "create": "new",
    "meaning": "means something else",
    "text": "same meaning, other words",
    "delete": "no longer wanted",
    "unchanged": "unchanged",
}
_POLL_SECONDS = 0.5

Paths = Annotated[
    list[Path], typer.Argument(help="Project directories, or Python or YAML files of one.")
]
Kind = Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.")]
Address = Annotated[
    list[str], typer.Argument(metavar="KIND/NAME", help="One resource; KIND NAME will do.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (plan, apply, get, describe, delete, wait, why):
        app.command()(command)


def plan(paths: Paths, output: OutputOption = Output.table) -> None:
    """Say what apply would change, and what follows from it."""
    from app.control.plan import plan as make_plan

    installation = platform()
    resources, whole = _load(paths)
    with installation.catalog() as catalog:
        current = catalog.list()
    rows = installation.table_rows()
    planned = make_plan(current, resources, whole_projects=frozenset(whole), rows=rows).data()
    show_one(planned, output, lambda: plan_text(planned))


def apply(
    paths: Paths,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Make it so: definitions and resources of project directories or files."""
    from app.client import control, whoami
    from app.control.service import apply_arguments

    resources, whole = _load(paths)
    arguments = apply_arguments(resources, whole)
    with control(platform(), "tondo apply") as commands:
        planned = commands.ask("plan", arguments)
        if _is_empty(planned):
            show_one(planned, output, lambda: "nothing to do: everything is as it was applied")
            return
        if not yes:
            (say if output is Output.table else note)(plan_text(planned))
            confirm("Apply this?")
        done = commands.ask("apply", {**arguments, "actor": whoami()})
    show_one(done, output, lambda: plan_text(done) if yes else "applied")


def get(
    kind: Kind,
    name: Annotated[str | None, typer.Argument(help="One of them.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Resources of a kind, or one of them."""
    with usage():
        wanted = kind_of(kind)
    with platform().catalog() as catalog:
        stored = catalog.list(wanted) if name is None else (catalog.get(wanted, name),)
    documents = [document_of(each) for each in stored]
    if name is not None and output is not Output.table:
        show_one(documents[0], output, str)
        return
    columns = {
        "NAME": lambda d: d["metadata"]["name"],
        "PROJECT": lambda d: d["metadata"]["project"],
        "OWNER": lambda d: d["metadata"]["owner"],
        "GENERATION": lambda d: d["metadata"]["generation"],
        "FINGERPRINT": lambda d: d["metadata"]["fingerprint"],
        "PHASE": lambda d: d["status"]["phase"] or "-",
    }
    show_list(documents, columns, output, none=f"There is no {wanted}. Apply one: tondo apply PATH")


def describe(address: Address, output: OutputOption = Output.table) -> None:
    """Everything about one resource, its history included."""
    kind, name = _address(address)
    with platform().catalog() as catalog:
        document = document_of(catalog.get(kind, name))
        events = [_event(event) for event in catalog.events(kind, name)]
    data = {**document, "events": events}
    show_one(data, output, lambda: as_yaml(data))


def delete(
    address: Address,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a resource from the catalog."""
    from app.client import control, whoami

    kind, name = _address(address)
    with platform().catalog() as catalog:
        catalog.get(kind, name)
    if not yes:
        confirm(f"Delete {kind}/{name}?")
    with control(platform(), "tondo delete") as commands:
        commands.ask("delete", {"kind": kind, "name": name, "actor": whoami()})
    say(f"{kind}/{name} is deleted")


def wait(
    address: Address,
    condition: Annotated[
        str, typer.Option("--for", metavar="CONDITION", help="A phase or a condition: Ready.")
    ],
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 60.0,
) -> None:
    """Wait until a resource is in a phase, or a condition of it holds."""
    kind, name = _address(address)
    limit = time.monotonic() + timeout
    while True:
        with platform().catalog() as catalog:
            stored = catalog.get(kind, name)
        if _holds(stored, condition):
            say(f"{kind}/{name} is {condition}")
            return
        if time.monotonic() >= limit:
            raise _still_waiting(stored, condition, timeout)
        time.sleep(_POLL_SECONDS)


def why(address: Address, output: OutputOption = Output.table) -> None:
    """Why a resource is as it is."""
    kind, name = _address(address)
    with platform().catalog() as catalog:
        document = document_of(catalog.get(kind, name))
        events = [_event(event) for event in catalog.events(kind, name)][-10:]
    data = {"kind": kind, "name": name, "status": document["status"], "events": events}
    show_one(data, output, lambda: _why_text(data))


def plan_text(planned: Mapping[str, Any]) -> str:
    """A plan as people read it: what changes, then how much stays."""
    lines = []
    for change in planned["changes"]:
        if change["action"] == "unchanged":
            continue
        mark, means = _MARKS[change["action"]], _MEANS[change["action"]]
        lines.append(f"{mark} {change['kind']}/{change['name']}  {means}{_prints(change)}")
        lines += [f"    {consequence}" for consequence in change["consequences"]]
    counts = planned["counts"]
    shown = [f"{n} {_COUNTED[action]}" for action, n in counts.items() if n]
    return "\n".join([*lines, ", ".join(shown) or "nothing was asked for"])


_COUNTED = {
    "create": "to create",
    "meaning": "with a new meaning",
    "text": "with new words",
    "delete": "to delete",
    "unchanged": "unchanged",
}


def _prints(change: Mapping[str, Any]) -> str:
    return f"  {change['before']} -> {change['after']}" if change["action"] == "meaning" else ""


def _is_empty(planned: Mapping[str, Any]) -> bool:
    return all(change["action"] == "unchanged" for change in planned["changes"])


def _load(paths: Sequence[Path]) -> tuple[list[Resource], list[str]]:
    from app.project import load_path, unique

    loaded = [load_path(path) for path in paths]
    resources = unique(resource for each in loaded for resource in each.resources)
    return resources, [each.project for each in loaded if each.whole]


def _address(parts: Sequence[str]) -> tuple[str, str]:
    text = "/".join(parts)
    kind, slash, name = text.partition("/")
    if not (slash and kind and name) or "/" in name:
        raise Usage(f"{text!r} is not KIND/NAME", "Write for example Deployment/arrival_delay.")
    with usage():
        return kind_of(kind), name


def _holds(stored: Stored, wanted: str) -> bool:
    status = stored.status
    if status.observed_generation < stored.generation and status.phase:
        return False
    if status.phase.lower() == wanted.lower():
        return True
    return any(c.type.lower() == wanted.lower() and c.status for c in status.conditions)


def _still_waiting(stored: Stored, wanted: str, timeout: float) -> Unavailable:
    resource, status = stored.resource, stored.status
    ready = status.condition("Ready")
    said = f": {ready.message}" if ready and ready.message else ""
    phase = status.phase or "not looked at yet"
    return Unavailable(
        f"{resource.address} is not {wanted} after {timeout:g} s, but {phase}{said}",
        (ready.hint if ready else "") or f"Ask: tondo why {resource.address}; tondo status.",
    )


def _event(event: Event) -> dict[str, Any]:
    return {
        "at": written(event.at),
        "action": event.action,
        "actor": event.actor,
        "generation": event.generation,
        **event.data,
    }


def _why_text(data: Mapping[str, Any]) -> str:
    status = data["status"]
    lines = [f"{data['kind']}/{data['name']}: {status['phase'] or 'nothing was found out yet'}"]
    for condition in status["conditions"]:
        state = "true" if condition["status"] else "false"
        lines.append(f"  {condition['type']} is {state} since {condition['lastTransitionTime']}")
        told = (condition["message"], condition["operatorMessage"])
        lines += [f"    {message}" for message in told if message]
        lines += [f"    Hint: {condition['hint']}"] if condition["hint"] else []
    lines += [f"  {e['at']}  {e['action']}  {_details(e)}" for e in data["events"]]
    return "\n".join(lines)


def _details(event: Mapping[str, Any]) -> str:
    if event["action"] == "phase":
        return f"{event['from'] or 'nothing'} -> {event['to']}"
    return f"generation {event['generation']} by {event['actor'] or 'somebody'}"
