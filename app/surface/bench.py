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
) -> None:
    """Run a benchmark beside its baseline; print ratios."""
    from app.bench.registry import names, run_bench

    for each in [name] if name else names():
        note(f"bench {each}")
        result = run_bench(platform(), each)
        text = as_json(result)
        if json is not None:
            json.write_text(text + "\n")
        say(text)
