"""Keys let requests in, and their file is followed."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from features.testing import ManualClock
from serving.access import FileKeys, OpenAccess

SECOND = 1_000_000


def write_keys(path: Path, *keys: bytes, stamp: int) -> None:
    """Writes a keys file with a modification time of its own."""
    entries = [{"name": "k", "sha256": hashlib.sha256(key).hexdigest()} for key in keys]
    path.write_text(json.dumps(entries))
    os.utime(path, ns=(stamp, stamp))


@pytest.fixture
def clock() -> ManualClock:
    """A clock at one second."""
    return ManualClock(SECOND)


def test_a_known_key_is_let_in_and_others_are_not(tmp_path: Path, clock: ManualClock) -> None:
    """Only a bearer key whose digest is listed is let in."""
    write_keys(tmp_path / "keys.json", b"secret", stamp=1)
    keys = FileKeys(tmp_path / "keys.json", clock)
    assert keys.allows(b"Bearer secret")
    assert keys.allows(b"bearer secret")
    assert not keys.allows(b"Bearer other")
    assert not keys.allows(b"Basic secret")
    assert not keys.allows(b"")


def test_a_revoked_key_is_out_within_a_second(tmp_path: Path, clock: ManualClock) -> None:
    """When the file changes, remembered keys are checked against it again."""
    path = tmp_path / "keys.json"
    write_keys(path, b"old", stamp=1)
    keys = FileKeys(path, clock)
    assert keys.allows(b"Bearer old")
    write_keys(path, b"new", stamp=2)
    clock.advance(SECOND)
    assert keys.allows(b"Bearer new")
    assert not keys.allows(b"Bearer old")


def test_a_torn_file_keeps_the_keys_known_before(tmp_path: Path, clock: ManualClock) -> None:
    """While the file cannot be read, nobody new comes in and nobody known is shut out."""
    path = tmp_path / "keys.json"
    write_keys(path, b"secret", stamp=1)
    keys = FileKeys(path, clock)
    assert keys.allows(b"Bearer secret")
    path.write_text("[{")
    clock.advance(SECOND)
    assert keys.allows(b"Bearer secret")
    assert not keys.allows(b"Bearer other")


def test_without_a_file_nobody_is_let_in(tmp_path: Path, clock: ManualClock) -> None:
    """No keys file means no access, never open access."""
    assert not FileKeys(tmp_path / "none.json", clock).allows(b"Bearer x")


def test_open_access_is_open() -> None:
    """Authentication is off only where it was told so."""
    assert OpenAccess().allows(b"")
