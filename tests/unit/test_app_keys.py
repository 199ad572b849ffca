"""API keys: shown once, kept as digests, private, and safe against writers at once."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from app.access import KeyFile, ensure_operator_key
from app.access.keys import write_private
from app.errors import BadInput, Conflict, DamagedData, NotFound
from features.testing import ManualClock
from serving.access import FileKeys


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """An installation without keys."""
    return KeyFile(tmp_path / "keys" / "keys.json", ManualClock(7))


def test_a_key_is_known_by_its_text_alone(keys: KeyFile, tmp_path: Path) -> None:
    """The file has the digest, never the text; only its owner can read it."""
    text = keys.create("bob")
    file = tmp_path / "keys" / "keys.json"
    assert keys.knows(text)
    assert not keys.knows("bob")
    assert text not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [(key.name, key.created_at) for key in keys.list()] == [("bob", 7)]


def test_replicas_read_what_is_written(keys: KeyFile, tmp_path: Path) -> None:
    """The check in a replica accepts a key that was made here, and none that was revoked."""
    clock = ManualClock()
    check = FileKeys(tmp_path / "keys" / "keys.json", clock)
    header = f"Bearer {keys.create('bob')}".encode()
    assert check.allows(header)
    keys.revoke("bob")
    clock.advance(1_000_000)
    assert not check.allows(header)


def test_a_name_is_taken_once(keys: KeyFile) -> None:
    """A second key of a name is refused until the first is revoked; then it is another key."""
    first = keys.create("bob")
    with pytest.raises(Conflict, match="already"):
        keys.create("bob")
    keys.revoke("bob")
    assert keys.create("bob") != first
    assert not keys.knows(first)


@pytest.mark.parametrize("name", ["", "Bob", "a b", "../x", "-x", "x" * 64, "é"])
def test_names_are_plain(keys: KeyFile, name: str) -> None:
    """A name that could confuse a log or a path is refused."""
    with pytest.raises(BadInput):
        keys.create(name)


def test_an_unknown_key_cannot_be_revoked(keys: KeyFile) -> None:
    """NotFound names the nearest."""
    keys.create("alice")
    with pytest.raises(NotFound) as caught:
        keys.revoke("alic")
    assert "alice" in caught.value.hint


def test_writers_at_once_lose_no_key(keys: KeyFile) -> None:
    """Keys made by several threads at once are all in force."""
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: texts.append(keys.create(f"k{n}"))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert all(keys.knows(text) for text in texts)


@pytest.mark.parametrize("content", ["{", "[1]", '[{"name": "x"}]', "3", "{}x"])
def test_a_damaged_file_is_told_and_left_alone(keys: KeyFile, tmp_path: Path, content: str) -> None:
    """What cannot be read is never overwritten."""
    file = tmp_path / "keys" / "keys.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(DamagedData):
        keys.create("bob")
    assert file.read_text() == content


def test_the_operator_has_one_key_that_is_mended(keys: KeyFile, tmp_path: Path) -> None:
    """It is made once; a lost or foreign file gets a new key, and the old one is out of force."""
    path = tmp_path / "keys" / "operator"
    assert ensure_operator_key(keys, path)
    assert not ensure_operator_key(keys, path)
    first = path.read_text()
    path.write_text("foreign")
    assert ensure_operator_key(keys, path)
    assert keys.knows(path.read_text())
    assert not keys.knows(first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_private_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """A write that fails leaves the old content, and what it left behind is no whole file."""
    path = tmp_path / "file"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\udc80")
    assert path.read_text() == "old"
