"""``tondo demo``."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.surface.output import Output, OutputOption, note, show_one
from app.surface.progress import progress
from app.surface.session import platform

if TYPE_CHECKING:
    from app.demo import Report, Step


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(demo)


def demo(
    days: Annotated[int, typer.Option(min=1, help="Days of November to replay.")] = 2,
    output: OutputOption = Output.table,
) -> None:
    """The whole loop on the real flights of 2013, with a report at the end."""
    from app.demo import run_demo

    with progress("demo") as advance:
        report = run_demo(platform(), days=days, advance=advance, tell=_tell)
    show_one(report.data(), output, lambda: _text(report))
    note(f"Also written: {platform().home.reports}/demo.md, demo.json")
    raise typer.Exit(0 if report.held else 1)


def _tell(step: Step) -> None:
    from app.demo.report import step_line

    note(step_line(step))


def _text(report: Report) -> str:
    from app.demo.report import as_lines, as_table

    if sys.stdout.isatty():
        return as_table(report, shutil.get_terminal_size().columns)
    return "\n".join(as_lines(report))
