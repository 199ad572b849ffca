"""``tondo llm``: the GenAI Gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.errors import NotFound, Unavailable
from app.surface.output import Output, OutputOption, note, say, show_list
from app.surface.session import platform

if TYPE_CHECKING:
    from app.access.llm_keys import LlmKeyFile
    from app.llm import LlmHome

app = typer.Typer(help="The GenAI Gateway: one door to every model.", no_args_is_help=True)
keys = typer.Typer(help="Keys of the gateway.", no_args_is_help=True)
app.add_typer(keys, name="keys")

Name = Annotated[str, typer.Argument(help="Who the key is for.")]


def _home() -> LlmHome:
    from app.llm import LlmHome

    return LlmHome.of(platform())


def _keys() -> LlmKeyFile:
    from app.access.llm_keys import LlmKeyFile

    return LlmKeyFile(_home().keys)


@app.command()
def init() -> None:
    """Write a configuration to start from."""
    from app.llm import write_default_config

    home = _home()
    say(f"wrote {home.config}" if write_default_config(home) else f"{home.config} is there")


@app.command()
def start() -> None:
    """Run the gateway under /llm on the cluster that is up, or update it."""
    from app.llm import load_config, write_default_config
    from app.llm_on_ray import start_gateway

    home = _home()
    if write_default_config(home):
        note(f"wrote {home.config}")
    load_config(home.config)
    say(start_gateway(platform()))


@app.command()
def stop() -> None:
    """Take the gateway off the cluster; its books and keys stay."""
    from app.llm_on_ray import stop_gateway

    stop_gateway(platform())
    say("the gateway is stopped")


@app.command()
def routes(output: OutputOption = Output.table) -> None:
    """The models, who answers for them, and by which policy."""
    from app.llm import describe, load_config

    columns = {
        "MODEL": lambda row: row["model"],
        "TARGETS": lambda row: ", ".join(row["targets"]),
        "POLICY": lambda row: row["policy"] or "-",
        "CACHE": lambda row: f"{row['cacheSeconds']} s" if row["cacheSeconds"] else "-",
    }
    rows = describe(load_config(_home().config))
    show_list(rows, columns, output, none="There are no models.")


@app.command()
def spend(output: OutputOption = Output.table) -> None:
    """What every account spent, what replicas hold, and its limit."""
    from app.llm_on_ray import read_balances

    rows = [_balance_row(balance) for balance in read_balances(platform())]
    columns = {
        "ACCOUNT": lambda row: row["account"],
        "UNIT": lambda row: row["unit"],
        "SPENT": lambda row: row["spent"],
        "HELD": lambda row: row["held"],
        "LIMIT": lambda row: row["limit"],
    }
    show_list(rows, columns, output, none="Nothing with a limit was used yet.")


@app.command("test-policy")
def try_on_file(
    policy: Annotated[str, typer.Argument(help="A policy of the configuration.")],
    file: Annotated[Path, typer.Argument(help="A text file; each line is one message.")],
    output: OutputOption = Output.table,
) -> None:
    """What a policy finds in each line of a file, and what it does about it."""
    from app.llm import load_config
    from genai_gateway.guardrails.trial import try_policy

    policies = load_config(_home().config).policies
    if policy not in policies:
        raise NotFound(f"there is no policy {policy!r}", f"There are: {', '.join(policies)}.")
    lines = file.read_text().splitlines()
    rows = [{"line": n, **try_policy(policies[policy], line)} for n, line in enumerate(lines, 1)]
    columns = {
        "LINE": lambda row: row["line"],
        "OUTCOME": lambda row: row["outcome"],
        "FOUND": lambda row: ", ".join(row["found"]) or "-",
        "BECOMES": lambda row: row["becomes"],
    }
    show_list(rows, columns, output, none="The file is empty.")


@app.command()
def audit(output: OutputOption = Output.table) -> None:
    """Whether every chain of the audit is whole."""
    from genai_gateway.records.audit import verify_audit

    verdicts = {path.name: verify_audit(path) for path in sorted(_home().audit.glob("*.jsonl"))}
    rows = [
        {"file": name, "records": v.records, "whole": v.whole, "brokenAt": v.broken_at or None}
        for name, v in verdicts.items()
    ]
    columns = {
        "FILE": lambda row: row["file"],
        "RECORDS": lambda row: row["records"],
        "WHOLE": lambda row: "yes" if row["whole"] else f"no, from line {row['brokenAt']}",
    }
    show_list(rows, columns, output, none="Nothing was asked yet.")
    if not all(verdict.whole for verdict in verdicts.values()):
        raise Unavailable("a chain of the audit is broken", "Somebody changed or removed records.")


@keys.command()
def create(
    name: Name,
    project: Annotated[str, typer.Option(help="Whose budget it uses.")] = "default",
    user: Annotated[str, typer.Option(help="Whose personal budget it uses.")] = "",
    models: Annotated[str, typer.Option(help="Patterns of models, with commas.")] = "*",
    usd_per_month: Annotated[float, typer.Option(min=0)] = 0.0,
    requests_per_minute: Annotated[int, typer.Option(min=0)] = 0,
    tokens_per_minute: Annotated[int, typer.Option(min=0)] = 0,
    days: Annotated[int, typer.Option(min=0, help="Days in force; 0 for ever.")] = 0,
) -> None:
    """Make a key and print it; it is shown this once."""
    expires = platform().clock.now() + days * 86_400_000_000 if days else 0
    text = _keys().create(
        name,
        project=project,
        user=user,
        models=models.split(","),
        expires_at=expires,
        usd_per_month=usd_per_month,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    note(f"The key of {name}; keep it, it is stored nowhere:")
    say(text)


@keys.command("list")
def list_keys(output: OutputOption = Output.table) -> None:
    """Every key in force, without its text."""
    columns = {
        "NAME": lambda row: row["name"],
        "PROJECT": lambda row: row["project"],
        "MODELS": lambda row: ",".join(row["models"]),
        "USD/MONTH": lambda row: row["usd_per_month"] or "-",
        "SHA256": lambda row: row["sha256"][:12],
    }
    none = "There are no keys. Make one: tondo llm keys create NAME"
    show_list(_keys().entries(), columns, output, none=none)


@keys.command()
def revoke(name: Name) -> None:
    """Take a key out of force, within a second."""
    _keys().revoke(name)
    say(f"key {name} is revoked")


def _balance_row(balance: Any) -> dict[str, Any]:
    scale = 1e9 if balance.unit == "usd" else 1
    amounts = {"spent": balance.settled, "held": balance.held, "limit": balance.limit}
    return {
        "account": balance.account,
        "unit": balance.unit,
        **{name: amount / scale for name, amount in amounts.items()},
    }
