"""``tondo llm``: files, keys, routes, trying a policy, the audit; without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli import run
from genai_gateway.records.audit import AuditFile


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints on standard output."""
    capsys.readouterr()
    assert run(["llm", *arguments]) == code
    return capsys.readouterr().out


def test_a_configuration_to_start_from(
    tondo_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``init`` writes it once; ``routes`` reads it; a mistake in it is said with its place."""
    assert "wrote" in said(capsys, "init")
    assert "is there" in said(capsys, "init")
    (row,) = json.loads(said(capsys, "routes", "-o", "json"))
    assert (row["model"], row["targets"], row["policy"]) == ("echo", ["echo/echo"], "standard")
    (tondo_home / "llm/gateway.yaml").write_text("modells: {}")
    assert run(["llm", "routes"]) == 2
    assert "modells is not a setting" in capsys.readouterr().err


def test_keys(tondo_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key is printed once and kept as a digest; its limits are listed; it can be revoked."""
    text = said(capsys, "keys", "create", "robin", "--project", "p", "--usd-per-month", "5").strip()
    assert text.startswith("tondo_")
    file = tondo_home / "llm/keys.json"
    assert text not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    (row,) = json.loads(said(capsys, "keys", "list", "-o", "json"))
    assert (row["name"], row["project"], row["usd_per_month"]) == ("robin", "p", 5)
    said(capsys, "keys", "create", "robin", code=1)
    said(capsys, "keys", "revoke", "robin")
    assert json.loads(said(capsys, "keys", "list", "-o", "json")) == []
    said(capsys, "keys", "revoke", "robin", code=1)


def test_a_policy_is_tried_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line: what is found, and what becomes of it."""
    said(capsys, "init")
    file = tmp_path / "lines"
    file.write_text("hello\nI am jane@example.com\nAKIAIOSFODNN7EXAMPLE\n")
    rows = json.loads(said(capsys, "test-policy", "standard", str(file), "-o", "json"))
    assert [row["outcome"] for row in rows] == ["passed", "changed", "refused"]
    assert rows[1]["becomes"] == "I am ANONYMIZED_EMAIL_0"
    said(capsys, "test-policy", "none", str(file), code=1)


def test_the_audit_is_checked(tondo_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole chains are said to be whole; a damaged one fails the command."""
    path = tondo_home / "llm/audit/1.jsonl"
    AuditFile(path).close()
    (row,) = json.loads(said(capsys, "audit", "-o", "json"))
    assert (row["records"], row["whole"]) == (0, True)
    path.write_text('{"hash":"0","record":{}}\n')
    assert "no, from line 1" in said(capsys, "audit", code=1)


def test_spend_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything was used there is nothing to show."""
    assert "Nothing" in said(capsys, "spend")


@pytest.mark.parametrize("command", ["start", "stop"])
def test_the_gateway_needs_a_cluster(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without one the command says how to start it."""
    said(capsys, command, code=1)
    run(["llm", command])
    assert "tondo up" in capsys.readouterr().err
