"""``tondo bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.surface.output import as_json, note, say
from app.surface.session import platform


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(bench)


def bench(
    name: Annotated[str | None, typer.Argument(help="A benchmark; without one, all.")] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers to this file.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Events or rows to make up, where it makes any.")
    ] = None,
) -> None:
    """Run a benchmark beside its baseline; print ratios."""
    from app.bench.registry import bench as named
    from app.bench.registry import names, run_bench

    results = []
    for each in [named(name).name] if name else names():
        note(f"bench {each}: beside {named(each).baseline}")
        results.append(run_bench(platform(), each, size))
        say(as_json(results[-1]))
    if json is not None:
        json.write_text(as_json(results[0] if name else results) + "\n")
