"""``tondo keys``."""

from __future__ import annotations

from typing import Annotated

import typer

from app.moments import written
from app.surface.output import Output, OutputOption, note, say, show_list
from app.surface.session import platform, usage

app = typer.Typer(help="API keys.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Who the key is for.")]


@app.command()
def create(name: Name) -> None:
    """Make a key and print it; it is shown this once."""
    with usage():
        text = platform().keys().create(name)
    note(f"The key of {name}; keep it, it is stored nowhere:")
    say(text)


@app.command("list")
def list_keys(output: OutputOption = Output.table) -> None:
    """Every key in force."""
    rows = [
        {"name": key.name, "sha256": key.sha256, "createdAt": written(key.created_at)}
        for key in platform().keys().list()
    ]
    columns = {
        "NAME": lambda row: row["name"],
        "CREATED": lambda row: row["createdAt"],
        "SHA256": lambda row: row["sha256"][:12],
    }
    show_list(rows, columns, output, none="There are no keys. Make one: tondo keys create NAME")


@app.command()
def revoke(name: Name) -> None:
    """Take a key out of force, within a second."""
    platform().keys().revoke(name)
    say(f"key {name} is revoked")
