"""What commands print: tables for people, stable JSON and YAML for scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
import yaml

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], Any]]


class Output(StrEnum):
    """The shapes that every listing can take."""

    table = "table"
    json = "json"
    yaml = "yaml"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print: table, json or yaml.")
]


def show_list(rows: Sequence[Row], columns: Columns, output: Output, *, none: str) -> None:
    """Prints a listing; ``none`` is what people read when it is empty."""
    if output is not Output.table:
        _show_data(list(rows), output)
    elif not rows:
        say(none)
    else:
        _show_table(rows, columns)


def show_one(data: Any, output: Output, text: Callable[[], str]) -> None:
    """Prints one thing: as text for people, else as data."""
    if output is Output.table:
        typer.echo(text())
    else:
        _show_data(data, output)


def say(text: str) -> None:
    """Prints a line for people on standard output."""
    typer.echo(text)


def note(text: str) -> None:
    """Prints a line for people on standard error, where it disturbs no script."""
    typer.echo(text, err=True)


def confirm(question: str) -> None:
    """Asks on standard error and reads the answer; raises typer.Abort for anything but a yes."""
    typer.echo(f"{question} [y/N]: ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


def as_yaml(data: Any) -> str:
    """Data as YAML, keys in their order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip()


def as_json(data: Any) -> str:
    """Data as indented JSON."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(data, option=options, default=str).decode()


def _show_data(data: Any, output: Output) -> None:
    # Through JSON, so that both forms hold the same plain data.
    plain = orjson.loads(orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS, default=str))
    typer.echo(as_json(plain) if output is Output.json else as_yaml(plain))


def _show_table(rows: Sequence[Row], columns: Columns) -> None:
    cells = [[_cell(read(row)) for read in columns.values()] for row in rows]
    if sys.stdout.isatty():
        _show_rich(list(columns), cells)
        return
    for line in aligned([list(columns), *cells]):
        typer.echo(line)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns of equal width, two spaces apart."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _show_rich(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in cells:
        table.add_row(*row)
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(item) for item in value)
    return str(value)
