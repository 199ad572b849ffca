"""``tondo features``: data in, training sets out, and the catalog of what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.surface.output import (
    Output,
    OutputOption,
    aligned,
    as_json,
    as_yaml,
    confirm,
    note,
    show_list,
    show_one,
)
from app.surface.progress import progress
from app.surface.session import library, pairs, platform, usage

app = typer.Typer(help="The feature store.", no_args_is_help=True)

ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", help="Take the definitions of this directory, not the applied ones."),
]


@app.command()
def ingest(
    source: Annotated[str, typer.Argument(help="The source that the rows belong to.")],
    files: Annotated[list[Path], typer.Argument(help="Parquet, CSV or NDJSON files.")],
    stream: Annotated[
        bool, typer.Option("--stream", help="Through the source's event log, not straight in.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Even if the same file is in already.")
    ] = False,
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Put rows of files into the lake table of a source."""
    from app import feature_jobs, stream_jobs

    wanted = library(project).source(source)
    with progress(f"ingest {source}") as advance:
        if stream:
            done = stream_jobs.ingest_stream(platform(), wanted, files, again, advance)
        else:
            done = feature_jobs.ingest_files(platform(), wanted, files, again, advance)
    for column in done["ignored"]:
        note(f"column {column} is not in the schema of {source}: left out")
    show_one(done, output, lambda: _ingest_text(done))


@app.command()
def join(
    spine: Annotated[Path, typer.Option(help="The rows to be answered: keys, time, anything.")],
    features: Annotated[
        str, typer.Option(metavar="REFS", help="A service, or view:feature,view:*,…")
    ],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet, .csv or .arrow.")],
    time: Annotated[
        str, typer.Option(metavar="COLUMN", help="The spine's time column.")
    ] = "event_time",
    inclusive: Annotated[
        bool, typer.Option("--inclusive", help="Count events at the very time of a row, too.")
    ] = False,
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Point-in-time join: every row with the features as they were at its time."""
    from app import feature_jobs

    definitions = library(project)
    with usage():
        plan = feature_jobs.plan_of(platform(), definitions, features)
    with progress("join") as advance:
        done = feature_jobs.join(platform(), plan, spine, time, inclusive, out, advance)
    show_one(done, output, lambda: _join_text(done))


@app.command()
def materialize(
    view: Annotated[str, typer.Argument(help="The view to bring online.")],
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="What was available before this time.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Bring a view's history online, as a new version."""
    from app import online_jobs
    from app.moments import read_moment

    installation = platform()
    with usage():
        cut = installation.clock.now() if until is None else read_moment(until)
    wanted = library(None).view(view)
    with progress(f"materialize {view}") as advance:
        done = online_jobs.materialize(installation, wanted, cut, advance)
    show_one(done, output, lambda: _materialize_text(done))


@app.command("list")
def list_features(project: ProjectOption = None, output: OutputOption = Output.table) -> None:
    """Every feature there is."""
    from app.discovery import features_of

    _show_features(features_of(library(project)), output, "There are no features yet.")


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="Words to look for, anywhere.")],
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Features whose name, view, owner, tags, description or columns hold all the words."""
    from app.discovery import features_of, matching

    found = matching(features_of(library(project)), text)
    _show_features(found, output, f"Nothing matches {text!r}.")


@app.command()
def describe(
    ref: Annotated[str, typer.Argument(help="A view, a service, or view:feature.")],
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Everything about a view, a service or one feature: meaning, hop, lineage, consumers."""
    from app.discovery import describe as described

    data = described(library(project), ref)
    show_one(data, output, lambda: as_yaml(data))


@app.command()
def get(
    service: Annotated[str, typer.Argument(help="A feature service.")],
    key: Annotated[list[str] | None, typer.Option(metavar="K=V", help="An entity key.")] = None,
    request: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A request field.")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="As of this time.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say where every value came from.")
    ] = False,
    output: OutputOption = Output.json,
) -> None:
    """Online values of a service for one entity."""
    from app import feature_jobs, online_jobs
    from app.moments import read_moment

    with usage():
        keys, fields = pairs(key or (), "--key"), pairs(request or (), "--request")
        q = None if at is None else read_moment(at)
        plan = feature_jobs.plan_of(platform(), library(None), service)
        row = feature_jobs.request_row(plan, keys, fields)
    data = online_jobs.get_online(platform(), plan, row, q, explain)
    show_one(data, output, lambda: as_json(data))


@app.command()
def check(
    service: Annotated[str, typer.Argument(help="A feature service.")],
    output: OutputOption = Output.table,
) -> None:
    """Compare what was served online with what offline makes of the same positions."""
    from app import online_jobs

    with progress(f"check {service}") as advance:
        done = online_jobs.check(platform(), library(None), service, advance)
    show_one(done, output, lambda: as_yaml(done))
    if done["mismatches"]:
        raise typer.Exit(1)


@app.command()
def erase(
    entity: Annotated[str, typer.Argument(help="The entity that the key is of.")],
    key: Annotated[list[str], typer.Option(metavar="K=V", help="A part of its key; give all.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Remove everything about one entity, everywhere, and prove it. The platform must be down."""
    from app.erasure.job import erase as erase_everywhere
    from app.erasure.job import subject_of

    definitions = library(project)
    with usage():
        subject = subject_of(definitions, entity, pairs(key, "--key"))
    if not yes:
        confirm(f"Erase {entity} {', '.join(key)} for good?")
    with progress(f"erase {entity}") as advance:
        done = erase_everywhere(platform(), definitions, subject, advance)
    show_one(done, output, lambda: _erase_text(done))
    if not done["complete"]:
        raise typer.Exit(1)


def _show_features(rows: list[dict[str, Any]], output: Output, none: str) -> None:
    columns = {
        "FEATURE": lambda row: row["ref"],
        "TYPE": lambda row: row["dtype"],
        "ENTITY": lambda row: row["entity"],
        "SOURCE": lambda row: row["source"],
        "OWNER": lambda row: row["owner"],
        "MEANING": lambda row: row["expression"],
    }
    show_list(rows, columns, output, none=none)


def _ingest_text(done: dict[str, Any]) -> str:
    if done["nothingToDo"]:
        return f"nothing to do: {done['table']} has these files already (--again forces them)"
    lost = {"refused": "from the future", "malformed": "malformed", "late": "too late"}
    bad = [f"{done[key]} {why}" for key, why in lost.items() if done.get(key)]
    told = f" ({', '.join(bad)}: in its dead-letter table)" if bad else ""
    return f"{done['rows']:,} rows into {done['table']}{told}"


def _join_text(done: dict[str, Any]) -> str:
    return f"{done['rows']:,} rows with {done['features']} features into {done['out']}"


def _erase_text(done: dict[str, Any]) -> str:
    proof = f"proof {done['erasure']} (tondo home, erasures/)"
    if done["nothingToDo"]:
        return f"nothing to do: nothing of it is anywhere; {proof}"
    cells = [[p["kind"], p["name"], str(p["rows"]), p["how"]] for p in done["places"]]
    searched = done["searched"]
    told = (
        f"searched {searched['files']:,} files, {searched['bytes']:,} bytes: "
        f"found in {searched['found']}"
        if searched["done"]
        else f"not searched byte by byte: {searched['why']}"
    )
    lines = aligned([["PLACE", "NAME", "ROWS", "HOW"], *cells])
    lines += [told, *(f"LEFT: {left}" for left in done["left"])]
    lines += [f"remains: {remains}" for remains in done["remains"]]
    lines += [f"outside: {outside}" for outside in done["outside"]]
    return "\n".join([*lines, f"{done['rows']:,} rows, events and cells erased; {proof}"])


def _materialize_text(done: dict[str, Any]) -> str:
    return f"{done['view']} is online as version {done['version']}: {done['keys']:,} entities"
