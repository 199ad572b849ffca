"""What is served follows the desired state, and never gets worse on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from features.errors import DamagedData
from serving.desired import DesiredState, load_state
from serving.errors import UnknownModel

BODY = {
    "entities": {"carrier": "UA"},
    "request": {"distance": 100, "hour": 18, "dest": "BOS"},
}


def test_a_new_version_takes_over_at_once(replica: Any) -> None:
    """After the swap every answer is the new version's; going back needs no load."""
    assert replica.serve(2, 2).ready
    assert replica.predictor.predict("late", BODY, "r")["predictions"] == [3.5]
    assert replica.serve(1, 3).serving == 1
    assert replica.predictor.predict("late", BODY, "r")["predictions"] == [2.5]
    assert replica.loaded == ["d1", "d2"]


def test_a_version_that_does_not_load_leaves_the_one_before(replica: Any) -> None:
    """The status says why, and the next good one takes over."""
    replica.refused["d2"] = DamagedData("one byte is wrong", "h")
    status = replica.serve(2, 2)
    assert (status.serving, status.wanted, status.ready) == (1, 2, False)
    assert "one byte is wrong" in status.reason
    assert replica.predictor.predict("late", BODY, "r")["model"]["version"] == 1
    assert replica.serve(3, 3).reason == ""


def test_an_older_state_changes_nothing(replica: Any) -> None:
    """Two pushes that overtake each other end in the newer state."""
    replica.serve(2, 5)
    assert replica.serve(1, 4).serving == 2


def test_what_is_no_longer_wanted_is_dropped(replica: Any) -> None:
    """A model that the state does not name is not served any more."""
    replica.replica.set_models(DesiredState((), (), 2))
    with pytest.raises(UnknownModel):
        replica.predictor.predict("late", BODY, "r")


def test_a_replica_comes_back_from_its_own_disk(replica: Any, tmp_path: Path) -> None:
    """A restarted replica serves what the last one was told, without the control loop."""
    replica.serve(2, 2)
    again = type(replica)(tmp_path)
    again.replica.start()
    try:
        assert again.predictor.predict("late", BODY, "r")["predictions"] == [3.5]
    finally:
        again.replica.close()


def test_a_damaged_state_file_is_left_for_the_next_push(replica: Any, tmp_path: Path) -> None:
    """A replica that cannot read its state waits, and the push mends the file."""
    replica.state_file.write_bytes(replica.state_file.read_bytes().replace(b"late", b"lake"))
    again = type(replica)(tmp_path)
    again.replica.start()
    try:
        assert again.predictor.models() == []
        again.serve(3, 1)
    finally:
        again.replica.close()
    state = load_state(replica.state_file)
    assert state is not None
    assert state.models[0].version == 3
