"""``tondo up, down, status, doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.surface.output import Output, OutputOption, note, say, show_list
from app.surface.progress import progress
from app.surface.session import platform, use_config


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (up, down, status, doctor):
        app.command()(command)


def up(
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings over the defaults.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Join this Ray cluster, start none.")
    ] = None,
) -> None:
    """Start Ray and every long-lived piece; what runs already is left alone."""
    from app.lifecycle.up import up as bring_up

    use_config(config)
    with progress("up") as advance:
        started = bring_up(platform(), address, advance)
    say(started)
    cluster = platform().cluster()
    if cluster is not None:
        mode = cluster.environment["RAY_AUTH_MODE"]
        note(f"for Ray's commands: export RAY_AUTH_MODE={mode} RAY_ADDRESS={cluster.dashboard}")


def down() -> None:
    """Stop what up started, and nothing else."""
    from app.lifecycle.down import down as take_down

    with progress("down") as advance:
        stopped = take_down(platform(), advance)
    say(stopped)


def status(output: OutputOption = Output.table) -> None:
    """What should run, what runs, and why they differ."""
    from app.lifecycle.status import status as look

    rows = [row.data() for row in look(platform())]
    columns = {
        "PROCESS": lambda row: row["process"],
        "DESIRED": lambda row: row["desired"],
        "RUNNING": lambda row: row["running"],
        "WHY": lambda row: row["why"],
    }
    show_list(rows, columns, output, none="Nothing should run. Start it: tondo up")


def doctor(output: OutputOption = Output.table) -> None:
    """Check the installation and say how to mend it."""
    from app.lifecycle.doctor import examine

    rows = [finding.data() for finding in examine(platform())]
    columns = {
        "CHECK": lambda row: row["check"],
        "STATE": lambda row: row["state"],
        "FOUND": lambda row: row["found"],
        "HINT": lambda row: row["hint"],
    }
    show_list(rows, columns, output, none="Nothing was checked.")
    if any(row["state"] == "broken" for row in rows):
        raise typer.Exit(1)
