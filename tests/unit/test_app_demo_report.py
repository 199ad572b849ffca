"""The demo's report says what happened, whatever happened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from app.compose import Platform
from app.control.resources import Status, Stored, make
from app.demo.learn import Compared, learned
from app.demo.online import Materialized, serves
from app.demo.proof import proven
from app.demo.report import (
    Report,
    Step,
    as_lines,
    as_markdown,
    as_table,
    failed,
    step_of,
    write_report,
)
from app.demo.restart import Restarted
from app.demo.stage import NOVEMBER, Period
from app.demo.story import Ended, Script, run_demo
from app.errors import BadInput, NotFound
from app.settings import load_settings

GOOD = Step("sources in the lake", True, ("1,000 rows", "weather 26,115"), 2.5, {"rows": 1000})
BAD = Step("served equals recomputed", False, ("3 mismatches",), 1.0, {"mismatches": 3})


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result with one number."""

    rows: int
    held: bool = True
    lines: tuple[str, ...] = ("done",)


def test_one_step_that_did_not_hold_fails_the_whole() -> None:
    """The demo holds only if there are steps and every one of them held."""
    assert Report((GOOD,), 3.0, 10).held
    assert not Report((GOOD, BAD), 3.0, 10).held
    assert not Report((), 3.0, 10).held


def test_the_verdict_names_what_was_lost() -> None:
    """The last line names the steps that did not hold, the time and the memory."""
    report = Report((GOOD, BAD), 330.0, 5_400_000_000)
    assert report.verdict == (
        "these steps did not hold: served equals recomputed; 5.5 minutes, peak memory 5.4 GB"
    )


def test_plain_lines_have_every_step_and_the_verdict() -> None:
    """Without a terminal the report is lines of text that begin with what held."""
    lines = as_lines(Report((GOOD, BAD), 60.0, 10))
    assert [line[:2] for line in lines if not line.startswith("    ")][:2] == ["ok", "NO"]
    assert "    weather 26,115" in lines
    assert "\x1b" not in "\n".join(lines)


def test_a_terminal_gets_a_table_that_fits_it() -> None:
    """On a terminal every line fits the width, and text in brackets is not taken for markup."""
    odd = Step("drift looked for", True, ("most moved [red]: a", "x" * 200), 1.0)
    text = as_table(Report((GOOD, odd), 60.0, 10), width=80)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "[red]" in text
    assert "every step held" in text


def test_the_files_are_whole_and_say_the_same(tmp_path: Path) -> None:
    """The JSON holds every number, the page every line, and nothing else is left behind."""
    report = Report((GOOD, BAD), 60.0, 10)
    data, page = write_report(report, tmp_path / "reports")
    told = orjson.loads(data.read_bytes())
    assert (told["held"], told["peakMemoryBytes"]) == (False, 10)
    assert told["steps"][0]["data"] == {"rows": 1000}
    assert page.read_text() == as_markdown(report)
    assert "- weather 26,115" in page.read_text()
    assert sorted(p.name for p in data.parent.iterdir()) == ["demo.json", "demo.md"]


def test_a_result_becomes_a_step_with_its_numbers() -> None:
    """Whatever a step's result holds as fields is in the JSON report."""
    step = step_of("x", Outcome(7), 1.5)
    assert (step.held, step.seconds, step.data["rows"]) == (True, 1.5, 7)


def test_an_error_tells_what_and_how_to_mend_it() -> None:
    """An error of ours keeps its hint; any other leaves its trace in the data, not in the text."""
    ours = failed("x", NotFound("no such table", "Ingest it."), 1.0)
    assert ours.lines == ("no such table", "Hint: Ingest it.")
    assert ours.data["trace"] == ""
    try:
        raise KeyError("gap")
    except KeyError as error:
        other = failed("x", error, 1.0)
    assert other.lines[0] == "KeyError: 'gap'"
    assert "test_app_demo_report" in other.data["trace"]
    assert not other.held


def test_a_script_tells_each_step_and_ends_at_an_error() -> None:
    """Steps are told as they end; one that fails with an error is told too, and ends the script."""
    told: list[Step] = []
    script = Script(told.append)
    assert script.act("first", lambda: Outcome(1)).rows == 1
    assert script.act("second", lambda: Outcome(2, held=False)).rows == 2

    def broken() -> Outcome:
        raise NotFound("gone")

    with pytest.raises(Ended):
        script.act("third", broken)
    assert [(step.name, step.held) for step in told] == [
        ("first", True),
        ("second", False),
        ("third", False),
    ]
    assert script.steps == told


def test_no_days_are_refused_before_anything_starts(tmp_path: Path) -> None:
    """Zero days would prove nothing, and are refused with a hint."""
    settings = load_settings(environ={}).model_copy(update={"home": tmp_path / "home"})
    with pytest.raises(BadInput, match="at least one day"):
        run_demo(Platform(settings), days=0, advance=lambda *_: None, tell=lambda _: None)
    assert not (tmp_path / "home").exists()


def trained(**auc: float) -> dict[str, object]:
    """What a training job says, with these baselines."""
    return {
        "version": 3,
        "digest": "ab" * 32,
        "run": "r",
        "value": 0.75,
        "baselines": {
            "arrival_delay_request_only": 0.66,
            "arrival_delay_with_dep_delay": 0.93,
            "arrival_delay_request_with_dep_delay": 0.91,
            **auc,
        },
        "why": "passes",
        "promoted": True,
        "report": "report.json",
        "plot": "",
        "trainingSeconds": 12.0,
    }


def test_features_must_beat_the_request_alone_in_both_pairs() -> None:
    """Training holds only if history wins with and without the departure delay."""
    assert learned(trained()).held
    assert not learned(trained(arrival_delay_request_only=0.75)).held
    assert not learned(trained(arrival_delay_with_dep_delay=0.90)).held
    lines = learned(trained()).lines
    assert "0.7500 with features, 0.6600 from the request alone" in lines[0]


def test_the_difference_to_plain_xgboost_has_its_sign() -> None:
    """Slower than plain is a plus, beyond twenty seconds is said."""
    assert "+5.0 s, within" in Compared(12.0, 7.0, 100, 0.7).lines[0]
    assert "+25.0 s, beyond" in Compared(32.0, 7.0, 100, 0.7).lines[0]


def test_a_view_without_entities_does_not_hold() -> None:
    """Coming online with nothing in it is not coming online."""
    period = Period(NOVEMBER, NOVEMBER + 1)
    assert Materialized(period, {"a": 3, "b": 1}, {}).held
    assert not Materialized(period, {"a": 3, "b": 0}, {}).held
    assert not Materialized(period, {}, {}).held
    assert "1 November 2013 00:00" in Materialized(period, {"a": 3}, {}).lines[0]


def test_a_proof_needs_values_and_no_mismatch() -> None:
    """Nothing compared proves nothing, and one mismatch is one too many."""
    done = {"rows": 9, "values": 90, "mismatches": 0, "differences_at_q": 2, "gap": {"p50": 1500}}
    proof = proven(done, {})
    assert proof.held
    assert "p50 1.5 ms" in proof.lines[-1]
    assert not proven({**done, "mismatches": 1}, {}).held
    assert not proven({**done, "values": 0}, {}).held


def test_a_restart_without_an_answer_does_not_hold() -> None:
    """What cannot answer after a restart says why."""
    assert Restarted(4.0, 21.0, 1, "").held
    assert Restarted(4.0, 21.0, 0, "503: away").lines == ("no answer after the restart: 503: away",)


@pytest.mark.parametrize(
    ("phase", "version", "observed", "expected"),
    [
        ("Steady", 2, 3, True),
        ("Steady", 1, 3, False),
        ("Steady", 2, 2, False),
        ("Staging", 2, 3, False),
    ],
)
def test_served_means_steady_with_that_version(
    phase: str, version: int, observed: int, expected: bool
) -> None:
    """A deployment serves a version once it is steady with it, of the latest generation."""
    spec = {"family": "flights.arrival_delay"}
    status = Status(observed, phase, (), {"serving": {"version": version}})
    stored = Stored(make("Deployment", "d", spec), 3, 3, 0, 0, status)
    assert serves(stored, 2) is expected
