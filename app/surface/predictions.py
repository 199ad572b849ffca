"""``tondo predict``."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from app.errors import Usage
from app.surface.output import Output, OutputOption, as_json, show_one
from app.surface.session import platform


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(predict)


def predict(
    model: Annotated[str, typer.Argument(help="The name that the model is served under.")],
    body: Annotated[
        str, typer.Option("--json", metavar="JSON", help='{"entities": {…}, "request": {…}}')
    ],
    explain: Annotated[
        bool, typer.Option("--explain", help="Say where every feature came from.")
    ] = False,
    output: OutputOption = Output.json,
) -> None:
    """One request to the running service."""
    from app.http import ask_service

    path = f"/v1/models/{model}/predict" + ("?explain=1" if explain else "")
    answer = ask_service(platform(), path, _parsed(body))
    show_one(answer, output, lambda: as_json(answer))


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Usage(
            f"--json is not JSON: {error}", 'Write \'{"entities": {"carrier": "UA"}}\'.'
        ) from None
