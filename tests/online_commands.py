"""The online commands over a server that the settings name: materialize, get, the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.compose import Platform
from app.lifecycle.doctor import examine
from app.online_jobs import get_online, materialize
from app.settings import load_settings
from features.offline.lake import source_table
from features.testing import ManualClock
from features.view_test import events_table
from tests.unit.test_app_online_jobs import EVENTS, HISTORY, NOON, ROW, SOURCE, VIEW, nothing, plan


def installation(home: Path, **variables: str) -> Platform:
    """An installation at noon, with events in its lake and settings by TONDO_ONLINE_* variables."""
    environ = {f"TONDO_ONLINE_{name.upper()}": value for name, value in variables.items()}
    made = Platform(load_settings(None, {"TONDO_HOME": str(home), **environ}), ManualClock(NOON))
    lake = made.lake()
    lake.create(source_table(SOURCE))
    lake.append("lake.src", events_table(SOURCE, EVENTS))
    return made


def bring_and_get(platform: Platform) -> None:
    """Brings a view online and reads it; nothing of it is in a file of the home."""
    assert materialize(platform, VIEW, NOON, nothing)["keys"] == 2
    found: dict[str, Any] = get_online(platform, plan(), ROW, None, False)
    assert {name: found["values"][f"spent__{name}"] for name in HISTORY} == HISTORY
    assert not platform.home.online.exists()


def states(platform: Platform) -> set[str]:
    """The states of the values of the same row."""
    found = get_online(platform, plan(), ROW, None, False)["states"]
    return {state for name, state in found.items() if name.startswith("spent__")}


def online_finding(platform: Platform) -> tuple[str, str]:
    """What the doctor says about the online store."""
    (found,) = (
        each for each in examine(platform) if each.check.replace("_", " ") == "online store"
    )
    return found.state, found.found
