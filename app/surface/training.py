"""``tondo train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.surface.output import Output, OutputOption, show_one
from app.surface.progress import progress
from app.surface.session import pairs, platform, usage


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(train)


def train(
    model: Annotated[str, typer.Argument(help="A model family, e.g. flights.arrival_delay.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="A parameter of the run.")
    ] = None,
    project: Annotated[
        Path | None, typer.Option(help="The project that has the model, if it was not applied.")
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make it champion if its gates say so.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="In this process, without a cluster.")
    ] = False,
    run_id: Annotated[str, typer.Option(hidden=True, help="What to call the run.")] = "",
    why: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
    output: OutputOption = Output.table,
) -> None:
    """Train a model and register the version: as a Ray job, followed until it is done."""
    from app import training_jobs
    from app.lifecycle.cluster import in_ray_job

    with usage():
        given = pairs(settings or (), "--set")
    asked = training_jobs.Asked(model, given, project, promote, run_id, why)
    with progress(f"train {model}") as advance:
        if local or in_ray_job():
            done = training_jobs.run_here(platform(), asked, advance)
        else:
            done = training_jobs.submit(platform(), asked, advance)
    show_one(done, output, lambda: _text(done))


def _text(done: dict[str, Any]) -> str:
    verdict = "may be promoted" if done["promotable"] else "is held"
    lines = [
        f"{done['family']}:{done['version']}  {done['metric']} {done['value']:.4f}",
        f"{verdict}: {done['why']}",
    ]
    lines += [f"{service}: {value:.4f}" for service, value in done["baselines"].items()]
    lines += ["it is champion now"] if done["promoted"] else []
    return "\n".join([*lines, f"report: {done['report']}"])
