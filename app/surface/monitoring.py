"""``tondo monitor``: is the world still the one that the model learned from?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.surface.output import Output, OutputOption, aligned, show_one
from app.surface.progress import progress
from app.surface.session import platform, usage

app = typer.Typer(help="Drift against the training reference.", no_args_is_help=True)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A monitor.")],
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="The end of its window; without it, now.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Compare the monitor's window with the champion's training rows; say what its rules say."""
    from app.control.specs import MonitorSpec
    from app.drift import check_drift, decide_by
    from app.moments import read_moment

    installation = platform()
    with usage():
        end = installation.clock.now() if until is None else read_moment(until)
    with installation.catalog() as catalog:
        spec = MonitorSpec.model_validate(catalog.get("Monitor", name).resource.spec)
    with progress(f"monitor {name}") as advance:
        found = check_drift(installation, name, (end - spec.window, end), advance)
    rules = {rule: _decided(made) for rule, made in decide_by(installation, found).items()}
    data = {**found.data(), "rules": rules}
    show_one(data, output, lambda: _text(data))


def _decided(decision: Any) -> dict[str, str]:
    return {"decision": type(decision).__name__, "why": decision.why}


def _text(data: dict[str, Any]) -> str:
    counted = f"{len(data['drifted'])} of {data['compared']} columns drifted"
    title = f"{data['family']}:{data['version']}, {data['rows']:,} rows: {counted}"
    header = ["COLUMN", "DRIFTED", "PSI", "ABOVE", "MISSING", "IN TRAINING"]
    rules = [f"Rule/{n}: {made['decision']}: {made['why']}" for n, made in data["rules"].items()]
    return "\n".join([title, *aligned([header, *map(_cells, data["columns"])]), *rules])


def _cells(column: dict[str, Any]) -> list[str]:
    return [
        column["column"],
        "yes" if column["drifted"] else "no",
        f"{column['psi']:.4f}",
        f"{column['psiThreshold']:.4f}",
        f"{column['missing']:.2%}",
        f"{column['missingReference']:.2%}",
    ]
