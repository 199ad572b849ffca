"""The artifact store keeps exactly what it was given, or says that it could not."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import BadInput, DamagedData, NotFound, Unavailable
from training.artifacts import LocalArtifacts
from training.package import tree_digest


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "artifacts")


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_files_and_folders_come_back_by_their_digest(store: LocalArtifacts, tmp_path: Path) -> None:
    """What is stored lies, byte for byte, where its digest says."""
    folder = folder_of(tmp_path / "in", {"a": b"1", "deep/b": b"2"})
    digest, single = store.put(folder), store.put(folder / "a")
    assert digest == tree_digest(folder)
    assert (store.path(digest) / "deep" / "b").read_bytes() == b"2"
    assert store.path(single).read_bytes() == b"1"


def test_storing_twice_is_nothing_new(store: LocalArtifacts, tmp_path: Path) -> None:
    """The same content has one place, whatever it is called."""
    first = store.put(folder_of(tmp_path / "x", {"a": b"1"}))
    assert store.put(folder_of(tmp_path / "y", {"a": b"1"})) == first


def test_names_are_part_of_a_folders_content(tmp_path: Path) -> None:
    """A renamed file is another folder."""
    one, two = folder_of(tmp_path / "x", {"a": b"1"}), folder_of(tmp_path / "y", {"b": b"1"})
    assert tree_digest(one) != tree_digest(two)


@pytest.mark.parametrize("damage", ["flip", "drop", "add"])
def test_damage_is_noticed_before_anything_is_read(
    store: LocalArtifacts, tmp_path: Path, damage: str
) -> None:
    """A flipped byte, a lost file and an extra file are damaged data with a hint."""
    digest = store.put(folder_of(tmp_path / "in", {"a": b"12345", "b": b"x"}))
    place = store.path(digest)
    if damage == "flip":
        (place / "a").write_bytes(b"12845")
    elif damage == "drop":
        (place / "b").unlink()
    else:
        (place / "c").write_bytes(b"")
    with pytest.raises(DamagedData, match="Hint"):
        store.path(digest)


def test_unknown_and_malformed_digests_are_told_apart(store: LocalArtifacts) -> None:
    """A digest that is not here is not found; what is no digest is bad input."""
    with pytest.raises(NotFound):
        store.path("0" * 64)
    with pytest.raises(BadInput):
        store.path("../../etc")
    assert "0" * 64 not in store


def test_a_store_that_cannot_write_leaves_nothing(tmp_path: Path) -> None:
    """Where nothing can be written the error says so, and no half artifact stays."""
    blocked = tmp_path / "artifacts"
    blocked.mkdir()
    (blocked / "sha256").write_bytes(b"a file where the folder should be")
    source = folder_of(tmp_path / "in", {"a": b"1"})
    with pytest.raises(Unavailable, match="half-written"):
        LocalArtifacts(blocked).put(source)
    assert [p.name for p in blocked.iterdir()] == ["sha256"]


def test_nothing_temporary_is_left(store: LocalArtifacts, tmp_path: Path) -> None:
    """After a store there is the artifact and nothing else."""
    digest = store.put(folder_of(tmp_path / "in", {"a": b"1"}))
    root = tmp_path / "artifacts" / "sha256"
    assert [p.name for p in root.iterdir()] == [digest[:2]]
