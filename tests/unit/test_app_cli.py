"""The command line: exit codes 0, 1 and 2, errors that teach, and JSON that scripts can rely on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from app.compose import open_platform

ROOT = Path(__file__).resolve().parents[2]
Tondo = Any
GROUPS = ([], ["features"], ["models"], ["keys"])


@pytest.mark.parametrize("group", GROUPS)
def test_help_is_a_success_and_a_bare_group_is_wrong_usage(tondo: Tondo, group: list[str]) -> None:
    """--help goes to standard output with 0; a group alone shows the same on the other with 2."""
    asked, bare = tondo(*group, "--help"), tondo(*group)
    assert (asked.code, asked.err) == (0, "")
    assert "Usage: tondo" in asked.out
    assert (bare.code, bare.out) == (2, "")
    assert "Usage: tondo" in bare.err


@pytest.mark.parametrize(
    "arguments",
    [
        "fly",
        "plan",
        "predict m",
        "predict m --json {",
        "get Bogus",
        "get Project -o xml",
        "describe Project",
        "describe Project/a/b c",
        "wait Project/a",
        "wait Project/a --for Ready --timeout soon",
        "wait Project/a --for Ready --timeout -1",
        "models show a:b",
        "models history f --at yesterday",
        "keys create Bad!Name",
        "train m --set x",
        "features get s --key x",
        "features materialize v --until soon",
        "up --config missing.yaml",
    ],
)
def test_wrong_usage_is_2(tondo: Tondo, arguments: str) -> None:
    """What cannot be understood ends with 2, an error and a hint on standard error, no trace."""
    ran = tondo(*arguments.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: ")
    assert "\nHint: " in ran.err
    assert "Traceback" not in ran.err
    assert "Value error" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        "plan nowhere",
        "apply nowhere --yes",
        "get Project missing",
        "describe Project/missing",
        "delete Project/missing --yes",
        "why Project missing",
        "wait Project/missing --for Ready --timeout 0",
        "features describe missing",
        "models show missing",
        "models history missing",
        "models promote missing:1",
        "models compare a b",
        "predict m --json {}",
        "train missing",
        "train missing --local",
        "keys revoke missing",
    ],
)
def test_what_fails_is_1(tondo: Tondo, arguments: str) -> None:
    """What was understood but cannot be done ends with 1, an error and a hint."""
    ran = tondo(*arguments.split())
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: ")
    assert "\nHint: " in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    ["get Projects", "features list", "features search x", "models list", "keys list", "down"],
)
def test_an_empty_installation_has_empty_answers(tondo: Tondo, arguments: str) -> None:
    """A newcomer who looks around gets words and 0, and nothing is created by looking."""
    ran = tondo(*arguments.split())
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip()
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    "arguments", ["get Projects", "features list", "features search x", "models list", "keys list"]
)
def test_empty_listings_are_empty_lists(tondo: Tondo, arguments: str) -> None:
    """Scripts read [] in both forms."""
    assert tondo(*arguments.split(), "-o", "json").data == []
    assert yaml.safe_load(tondo(*arguments.split(), "-o", "yaml").out) == []


def test_wrong_settings_are_wrong_usage(tondo: Tondo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that cannot be ends every command with 2 before it does anything."""
    monkeypatch.setenv("TONDO_HTTP_PORT", "99999")
    ran = tondo("status")
    assert ran.code == 2
    assert "http.port" in ran.err
    assert "TONDO_HTTP_PORT" in ran.err


def test_debug_shows_where_an_error_came_from(tondo: Tondo) -> None:
    """--debug may stand anywhere and adds the trace."""
    for arguments in (["--debug", "plan", "nowhere"], ["plan", "nowhere", "--debug"]):
        ran = tondo(*arguments)
        assert ran.code == 1
        assert "Traceback" in ran.err
        assert "Error: there is nothing at nowhere" in ran.err


def test_an_unforeseen_error_is_told_without_a_trace(
    tondo: Tondo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours is one line and a way to see more."""
    monkeypatch.setattr("app.surface.models._row", lambda *_: 1 / 0)
    with open_platform().gallery_writer("a test") as gallery:
        gallery.create(_draft())
    ran = tondo("models", "list")
    assert ran.code == 1
    assert ran.err == (
        "Error: ZeroDivisionError: division by zero\n"
        "Hint: Run it again with --debug to see where.\n"
    )


def test_a_home_that_cannot_be_is_told(
    tondo: Tondo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A home inside a file is an error of the path; doctor reports it and goes on."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("TONDO_HOME", str(file))
    made = tondo("keys", "create", "bob")
    assert made.code == 1
    assert str(file) in made.err
    looked = tondo("doctor", "-o", "json")
    assert looked.code == 1
    states = {row["check"]: row for row in looked.data}
    assert states["home"]["state"] == "broken"
    assert states["home"]["hint"]
    assert states["python"]["state"] == "ok"


def test_plan_apply_get_describe_delete(tondo: Tondo, shop: Path) -> None:
    """A project's life without a cluster, as a script would drive it."""
    planned = tondo("plan", shop, "-o", "json").data
    assert planned["counts"] == {
        "create": 7, "meaning": 0, "text": 0, "delete": 0, "unchanged": 0,
    }  # fmt: skip
    assert list(planned["changes"][0]) == [
        *("action", "kind", "name", "before", "after", "consequences"),
    ]
    assert tondo("apply", shop, "--yes").code == 0
    again = tondo("apply", shop)
    assert (again.code, again.out) == (0, "nothing to do: everything is as it was applied\n")


def test_resources_are_shown_and_deleted(tondo: Tondo, shop: Path) -> None:
    """get, describe and why tell of a resource in both ways of naming it; delete removes it."""
    tondo("apply", shop, "--yes")
    one = tondo("get", "deployment", "fraud", "-o", "json").data
    assert (one["kind"], one["spec"]["family"]) == ("Deployment", "shop.fraud")
    table = tondo("get", "deployments").out.splitlines()
    assert table[0].split() == ["NAME", "PROJECT", "OWNER", "GENERATION", "FINGERPRINT", "PHASE"]
    described = tondo("describe", "Deployment/fraud", "-o", "json").data
    assert [event["action"] for event in described["events"]] == ["create"]
    assert tondo("describe", "deployment", "fraud", "-o", "json").data == described
    assert "nothing was found out yet" in tondo("why", "Deployment/fraud").out
    assert tondo("delete", "FeatureView/spending", "--yes").code == 1
    assert tondo("delete", "Deployment/fraud", "--yes").code == 0
    assert tondo("get", "deployments", "-o", "json").data == []


def test_unanswered_questions_change_nothing(
    tondo: Tondo, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a yes, apply and delete stop; what was asked stands beside the answer, not in it."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ran = tondo("apply", shop, "-o", "json")
    assert (ran.code, ran.out) == (1, "")
    assert "7 to create" in ran.err
    assert "nothing was changed" in ran.err
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert tondo("apply", shop).code == 1
    assert tondo("get", "projects", "-o", "json").data == []
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert tondo("apply", shop).code == 0


def test_a_second_writer_is_told_who_the_first_is(tondo: Tondo, shop: Path) -> None:
    """While another process writes, apply fails and names it; reading goes on."""
    with open_platform().catalog_writer("somebody else"):
        ran = tondo("apply", shop, "--yes")
        assert ran.code == 1
        assert "somebody else" in ran.err
        assert tondo("get", "projects").code == 0


def test_waiting_ends(tondo: Tondo, shop: Path) -> None:
    """A phase that does not come is a failure that says where the resource stands."""
    tondo("apply", shop, "--yes")
    ran = tondo("wait", "Deployment/fraud", "--for", "Ready", "--timeout", "0")
    assert ran.code == 1
    assert "not looked at yet" in ran.err


def test_features_are_listed_searched_and_described(tondo: Tondo, shop: Path) -> None:
    """The catalog of features, from a project's files or once it is applied."""
    given = tondo("features", "list", "--project", shop, "-o", "json").data
    tondo("apply", shop, "--yes")
    applied = tondo("features", "list", "-o", "json").data
    assert given == applied
    assert [row["ref"] for row in applied] == ["spending:mean_3h", "spending:count_3h"]
    assert tondo("features", "search", "MEAN risk", "-o", "json").data == applied[:1]
    assert tondo("features", "describe", "spending:mean_3h", "-o", "json").data["services"] == [
        "fraud"
    ]
    assert "Did you mean mean_3h" in tondo("features", "describe", "spending:mean_3").err


def test_models_are_listed_shown_compared_and_promoted(tondo: Tondo) -> None:
    """Gallery from the command line, before any cluster is up."""
    with open_platform().gallery_writer("a test") as gallery:
        for _ in range(2):
            gallery.create(_draft(len(gallery.list())))
    assert tondo("models", "promote", "shop.fraud:1", "--reason", "first").code == 0
    assert "nothing to do" in tondo("models", "promote", "shop.fraud:1").out
    rows = tondo("models", "list", "-o", "json").data
    assert [(row["version"], row["aliases"]) for row in rows] == [(1, ["champion"]), (2, [])]
    assert tondo("models", "show", "shop.fraud", "-o", "json").data["version"] == 1
    assert tondo("models", "show", "shop.fraud@champion", "-o", "json").data["version"] == 1
    compared = tondo("models", "compare", "shop.fraud:1", "shop.fraud:2", "-o", "json").data
    assert compared == [{"metric": "test.auc", "first": 0.5, "second": 0.75, "difference": 0.25}]
    assert tondo("models", "promote", "shop.fraud:9").code == 1
    moves = tondo("models", "history", "shop.fraud", "-o", "json").data
    assert [(move["alias"], move["to"], move["reason"]) for move in moves] == [
        ("champion", 1, "first")
    ]
    then = tondo("models", "history", "shop.fraud", "--at", "2000-01-01T00:00:00Z", "-o", "json")
    assert then.data == []


def test_keys_are_made_listed_and_revoked(tondo: Tondo) -> None:
    """A key is shown once, on standard output alone; the list has its digest."""
    made = tondo("keys", "create", "bob")
    assert made.out.startswith("tondo_")
    assert made.out.count("\n") == 1
    (row,) = tondo("keys", "list", "-o", "json").data
    assert list(row) == ["name", "sha256", "createdAt"]
    assert made.out.strip() not in str(row)
    assert tondo("keys", "create", "bob").code == 1
    assert tondo("keys", "revoke", "bob").code == 0
    assert tondo("keys", "list", "-o", "json").data == []


def test_status_tells_what_is_wanted_while_nothing_is_up(tondo: Tondo, shop: Path) -> None:
    """A deployment that waits for the cluster stands in the table with the way to start it."""
    tondo("apply", shop, "--yes")
    ray, fraud = tondo("status", "-o", "json").data
    assert (ray["process"], ray["desired"], ray["running"]) == ("ray", "down", "down")
    assert (fraud["desired"], fraud["running"]) == ("shop.fraud@champion", "down")
    assert "tondo up" in fraud["why"]


def test_ingest_and_join_need_no_cluster(tondo: Tondo, shop: Path) -> None:
    """Rows go in once, and a join of a spine with them gives what was known before each row."""
    tondo("apply", shop, "--yes")
    Path("paid.csv").write_text(
        "card,amount,paid_at\na,1.0,2013-01-01T00:00:00Z\na,3.0,2013-01-01T01:00:00Z\n"
    )
    Path("spine.csv").write_text(
        "card,event_time\na,2013-01-01T01:00:00Z\nb,2013-01-01T02:00:00Z\n"
    )
    first = tondo("features", "ingest", "payments", "paid.csv", "-o", "json")
    assert (first.code, first.data["rows"]) == (0, 2)
    again = tondo("features", "ingest", "payments", "paid.csv", "-o", "json")
    assert (again.code, again.data["nothingToDo"]) == (0, True)
    joined = tondo(
        *("features", "join", "--spine", "spine.csv", "--features", "spending:*"),
        *("--out", "out.csv", "-o", "json"),
    )
    assert joined.code == 0, joined.err
    assert Path("out.csv").read_text().splitlines()[1:] == [
        '"a",2013-01-01 01:00:00.000000Z,1,1',
        '"b",2013-01-01 02:00:00.000000Z,,0',
    ]


def test_a_reader_that_leaves_is_no_error(tondo: Tondo, shop: Path) -> None:
    """`tondo … | head -1` ends quietly."""
    command = f"{sys.executable} -m app.cli features list --project {shop} | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""


def _draft(made: int = 0) -> Any:
    from training.gallery import Metric, ModelVersion

    metric = Metric("auc", 0.5 + made / 4)
    return ModelVersion(
        family="shop.fraud",
        digest=f"{made}" * 64,
        service="fraud",
        metrics=(metric,),
        primary_metric="auc",
    )


def test_json_numbers_and_text_stay_what_they_are(tondo: Tondo, shop: Path) -> None:
    """Both forms hold the same plain data."""
    tondo("apply", shop, "--yes")
    as_json = tondo("get", "project", "shop", "-o", "json").out
    assert yaml.safe_load(tondo("get", "project", "shop", "-o", "yaml").out) == orjson.loads(
        as_json
    )
