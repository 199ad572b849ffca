"""The desired state survives on disk, whole or not at all."""

from pathlib import Path

import pytest

from features.errors import DamagedData
from serving.desired import DesiredModel, DesiredState, load_state, save_state

STATE = DesiredState(
    models=(DesiredModel("flights.arrival_delay", 3, "/packages/3", "abc", "champion"),),
    services=({"name": "arrival_delay"},),
    generation=7,
)


def test_a_saved_state_comes_back_equal(tmp_path: Path) -> None:
    """What was saved is what is loaded."""
    path = tmp_path / "run" / "serving.json"
    save_state(path, STATE)
    assert load_state(path) == STATE


def test_no_file_is_no_state(tmp_path: Path) -> None:
    """A replica that never got a state finds none."""
    assert load_state(tmp_path / "serving.json") is None


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """A state file with any one byte changed is refused, never half believed."""
    path = tmp_path / "serving.json"
    save_state(path, STATE)
    content = path.read_bytes()
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x01]) + content[i + 1 :])
        with pytest.raises(DamagedData):
            load_state(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    """A file that ends early is refused."""
    path = tmp_path / "serving.json"
    save_state(path, STATE)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedData):
        load_state(path)
