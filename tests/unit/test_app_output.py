"""What commands print: tables on a terminal and in a pipe, times, metrics of a model."""

from __future__ import annotations

import io
import re
import sys

import pytest

from app.surface.models import _metric_cells
from app.surface.output import Output, aligned, brief, cell, show_list

LONG = "flights.arrival_delay-20261124-211936-259d"
ROWS = [
    {"name": LONG, "why": "a reason that is much longer than what is left of a narrow line " * 2},
    {"name": "short", "why": ""},
]
COLUMNS = {"NAME": lambda row: row["name"], "WHY": lambda row: row["why"]}


class Terminal(io.StringIO):
    """Text that says it goes to a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


@pytest.mark.parametrize("width", [60, 100])
def test_a_terminal_never_cuts_a_name(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """The first column is whole on one line, the others wrap, and every line fits."""
    screen = Terminal()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", screen)
    show_list(ROWS, COLUMNS, Output.table, none="nothing")
    lines = re.sub("\x1b[^m]*m", "", screen.getvalue()).splitlines()
    assert any(LONG in line for line in lines)
    assert "…" not in screen.getvalue()
    assert max(len(line) for line in lines) <= width


def test_a_pipe_gets_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no person looks, each row is one line, however long."""
    show_list(ROWS, COLUMNS, Output.table, none="nothing")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(LONG)
    assert lines[2] == "short"


def test_an_empty_listing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """People read a sentence, programs an empty list."""
    show_list([], COLUMNS, Output.table, none="There is nothing yet.")
    show_list([], COLUMNS, Output.json, none="There is nothing yet.")
    assert capsys.readouterr().out == "There is nothing yet.\n[]\n"


def test_times_are_brief_in_tables() -> None:
    """To the second, in UTC; what has no time is a dash."""
    assert brief("2026-11-24T21:21:42.947281Z") == "2026-11-24 21:21:42Z"
    assert brief("2026-11-24T21:21:42Z") == "2026-11-24 21:21:42Z"
    assert brief(None) == "-"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.5, "0.5000"), (True, "yes"), (7, "7"), (["a", "b"], "a, b"), ("x", "x")],
)
def test_values_are_shown_plainly(value: object, shown: str) -> None:
    """Numbers with four digits, truths as yes and no, lists with commas."""
    assert cell(value) == shown


def test_metrics_stand_side_by_side() -> None:
    """One row for each split and segment, one column for each metric, a dash for none."""
    metrics = [
        {"name": "auc", "split": "test", "segment": "", "value": 0.75},
        {"name": "brier", "split": "test", "segment": "", "value": 0.125},
        {"name": "auc", "split": "test", "segment": "origin=JFK", "value": 0.5},
    ]
    assert aligned(_metric_cells(metrics)) == [
        "METRICS          auc     brier",
        "test             0.7500  0.1250",
        "test origin=JFK  0.5000  -",
    ]
