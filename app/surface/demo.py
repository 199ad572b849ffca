"""``tondo demo``."""

from __future__ import annotations

import typer

from app.surface.session import platform


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(demo)


def demo() -> None:
    """The whole loop on the real flights of 2013, with a report at the end."""
    from app.demo import run_demo

    raise typer.Exit(run_demo(platform()))
