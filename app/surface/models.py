"""``tondo models``: what Gallery holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.errors import NotFound
from app.moments import read_moment, written
from app.surface.output import (
    Output,
    OutputOption,
    aligned,
    as_yaml,
    brief,
    cell,
    say,
    show_list,
    show_one,
)
from app.surface.session import platform, usage

if TYPE_CHECKING:
    from training.gallery import Gallery, ModelVersion

app = typer.Typer(help="Model versions and their aliases.", no_args_is_help=True)

Reference = Annotated[
    str, typer.Argument(metavar="FAMILY[:VERSION|@ALIAS]", help="A version of a family.")
]
CHAMPION = "champion"


@app.command("list")
def list_models(
    family: Annotated[str | None, typer.Argument(help="Only this family.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Every version, by family and number."""
    with platform().gallery() as gallery:
        rows = [_row(gallery, version) for version in gallery.list(family)]
    columns = {
        "FAMILY": lambda row: row["family"],
        "VERSION": lambda row: row["version"],
        "ALIASES": lambda row: row["aliases"],
        "METRIC": lambda row: row["primaryMetric"],
        "VALUE": lambda row: row["primary"],
        "FRAMEWORK": lambda row: row["framework"],
        "CREATED": lambda row: brief(row["createdAt"]),
        "OWNER": lambda row: row["owner"],
    }
    show_list(rows, columns, output, none="There are no models yet. Make one: tondo train MODEL")


@app.command()
def show(reference: Reference, output: OutputOption = Output.table) -> None:
    """Everything about one version; without a number, the champion or else the newest."""
    with platform().gallery() as gallery:
        data = _full(gallery, _version(gallery, reference))
    show_one(data, output, lambda: _show_text(data))


@app.command()
def compare(
    first: Reference,
    second: Reference,
    output: OutputOption = Output.table,
) -> None:
    """The metrics of two versions side by side."""
    with platform().gallery() as gallery:
        left, right = _version(gallery, first), _version(gallery, second)
    rows = _compared(left, right)
    columns = {
        "METRIC": lambda row: row["metric"],
        left.name: lambda row: row["first"],
        right.name: lambda row: row["second"],
        "DIFFERENCE": lambda row: row["difference"],
    }
    show_list(rows, columns, output, none="Neither version has a metric.")


@app.command()
def history(
    family: Annotated[str, typer.Argument(help="A model family.")],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Which version each alias named then.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Every move of a family's aliases, or what they named at a time."""
    with usage():
        moment = None if at is None else read_moment(at)
    with platform().gallery() as gallery:
        _known(gallery, family)
        moves = gallery.history(family)
    if moment is None:
        _show_moves([_move(move) for move in moves], output)
        return
    _show_aliases(_aliases_then(moves, moment), output)


@app.command()
def promote(
    reference: Reference,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = CHAMPION,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    output: OutputOption = Output.table,
) -> None:
    """Move an alias to a version; deployments that follow the alias move with it."""
    from app.client import control, whoami
    from training.gallery import aliases_of

    installation = platform()
    with installation.gallery() as gallery:
        version = _version(gallery, reference)
        current = aliases_of(gallery.history(version.family)).get(alias)
    if current == version.version:
        say(f"nothing to do: {alias} of {version.family} is version {current} already")
        return
    move = {"family": version.family, "alias": alias, "to": version.version, "expect": current}
    with control(installation, "tondo models promote") as commands:
        done = commands.ask("move_alias", {**move, "actor": whoami(), "reason": reason})
    was = "nothing" if current is None else f"version {current}"
    text = f"{alias} of {version.family} is version {version.version} now (was {was})"
    show_one(done, output, lambda: text)


def _version(gallery: Gallery, text: str) -> ModelVersion:
    from training.gallery import aliases_of, read_reference

    with usage():
        family, reference = read_reference(text)
    if reference is None:
        _known(gallery, family)
        aliases = aliases_of(gallery.history(family))
        reference = aliases.get(CHAMPION) or gallery.list(family)[-1].version
    return gallery.get(family, reference)


def _known(gallery: Gallery, family: str) -> None:
    from features.naming import did_you_mean

    if not gallery.list(family):
        families = [version.family for version in gallery.list()]
        hint = did_you_mean(family, families, "families")
        raise NotFound(f"there is no model family {family!r} in Gallery", hint)


def _row(gallery: Gallery, version: ModelVersion) -> dict[str, Any]:
    return {
        "family": version.family,
        "version": version.version,
        "aliases": _aliases(gallery, version),
        "primaryMetric": version.primary_metric,
        "primary": version.primary,
        "framework": version.framework,
        "digest": version.digest,
        "owner": version.owner,
        "createdAt": written(version.created_at),
    }


def _full(gallery: Gallery, version: ModelVersion) -> dict[str, Any]:
    from training.gallery import to_data

    return {**to_data(version), **_row(gallery, version)}


_SHOWN_ELSEWHERE = ("metrics", "primary_metric", "primaryMetric", "primary", "created_at")


def _show_text(data: Mapping[str, Any]) -> str:
    """What there is to say, then the metrics side by side; the long lists are in YAML and JSON."""
    inputs = dict(data["inputs"])
    inputs["features"] = f"{len(inputs['features'])} of service {data['service']}"
    said = {k: v for k, v in data.items() if k not in _SHOWN_ELSEWHERE}
    said |= {"inputs": inputs, "createdAt": brief(data["createdAt"])}
    return "\n".join([as_yaml(said), "", *aligned(_metric_cells(data["metrics"]))])


def _metric_cells(metrics: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    names = list(dict.fromkeys(metric["name"] for metric in metrics))
    places = list(dict.fromkeys((metric["split"], metric["segment"]) for metric in metrics))
    values = {(m["split"], m["segment"], m["name"]): m["value"] for m in metrics}
    rows = [
        [" ".join(part for part in place if part), *(cell(values.get((*place, n))) for n in names)]
        for place in places
    ]
    return [["METRICS", *names], *rows]


def _aliases(gallery: Gallery, version: ModelVersion) -> list[str]:
    from training.gallery import aliases_of

    named = aliases_of(gallery.history(version.family))
    return [alias for alias, number in named.items() if number == version.version]


def _compared(left: ModelVersion, right: ModelVersion) -> list[dict[str, Any]]:
    keys = [(m.name, m.split, m.segment) for version in (left, right) for m in version.metrics]
    rows = []
    for name, split, segment in dict.fromkeys(keys):
        a, b = left.metric(name, split, segment), right.metric(name, split, segment)
        label = ".".join(part for part in (split, segment, name) if part)
        difference = None if a is None or b is None else b - a
        rows.append({"metric": label, "first": a, "second": b, "difference": difference})
    return rows


def _move(move: Any) -> dict[str, Any]:
    return {
        "at": written(move.at),
        "alias": move.alias,
        "to": move.to,
        "previous": move.previous,
        "actor": move.actor,
        "reason": move.reason,
    }


def _aliases_then(moves: Sequence[Any], moment: int) -> list[dict[str, Any]]:
    from training.gallery import alias_at

    names = sorted({move.alias for move in moves})
    then = [{"alias": name, "version": alias_at(moves, name, moment)} for name in names]
    return [{**row, "at": written(moment)} for row in then if row["version"] is not None]


def _show_moves(rows: list[dict[str, Any]], output: Output) -> None:
    names = ("alias", "to", "previous", "actor", "reason")
    columns = {"AT": lambda row: brief(row["at"]), **{n.upper(): _reader(n) for n in names}}
    show_list(rows, columns, output, none="No alias was ever moved.")


def _show_aliases(rows: list[dict[str, Any]], output: Output) -> None:
    columns = {name.upper(): _reader(name) for name in ("alias", "version")}
    columns["AT"] = lambda row: brief(row["at"])
    show_list(rows, columns, output, none="No alias named anything then.")


def _reader(name: str) -> Any:
    return lambda row: row[name]
