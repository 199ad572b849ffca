"""State and offset of a stream partition move together, whatever happens in between."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInput, Conflict, DamagedData, Unavailable
from features.stream.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
VIEW = "carrier_delay@0123456789ab/3"

SAVING = """
import sys
from pathlib import Path
from features.stream.checkpoint import Checkpoint
with Checkpoint(Path(sys.argv[1])) as checkpoint:
    number = checkpoint.offset()
    while True:
        number += 1
        text = str(number).encode()
        cells = [(b"%d" % key, text * 50) for key in range(200)]
        gone = [(b"%d" % (number - 1), None), (b"%d" % number, b"")]
        checkpoint.save(number, {"cells": cells, "moving": gone}, {"text": text})
        if number % 5 == 0:
            checkpoint.save(number, {f"space {number}": cells})
            checkpoint.drop(f"space {number - 5}")
        print(number, flush=True)
"""

KEYS = st.binary(max_size=3) | st.sampled_from([b"k" * n for n in (505, 506, 507, 511, 512, 5_000)])
CHANGES = st.dictionaries(
    st.sampled_from(["a", "a/1", "b"]),
    st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=5),
)
STEPS = st.lists(st.tuples(CHANGES, st.none() | st.sampled_from(["a", "b", "c"])), max_size=6)


def test_a_new_checkpoint_is_empty(tmp_path: Path) -> None:
    """It has offset 0, no meta, no spaces and no values."""
    with Checkpoint(tmp_path / "deep" / "0") as checkpoint:
        assert checkpoint.offset() == 0
        assert checkpoint.meta("newest") is None
        assert checkpoint.spaces() == ()
        assert checkpoint.get(VIEW, [b"UA", b""]) == [None, None]
        assert list(checkpoint.scan(VIEW)) == []


def test_what_was_saved_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    """Offset, meta and values survive, absent keys are None in their place."""
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save(
            7, {VIEW: [(b"UA", b"1"), (b"", b"")], "other": []}, {"newest": b"\x00\xff"}
        )
    with Checkpoint(tmp_path) as checkpoint:
        assert checkpoint.offset() == 7
        assert checkpoint.meta("newest") == b"\x00\xff"
        assert checkpoint.get(VIEW, [b"DL", b"UA", b"", b"UA"]) == [None, b"1", b"", b"1"]
        assert dict(checkpoint.scan(VIEW)) == {b"UA": b"1", b"": b""}
        assert checkpoint.spaces() == (VIEW, "other")


def test_meta_stays_until_it_is_replaced(tmp_path: Path) -> None:
    """A save that says nothing about a name leaves it; no name is the offset's."""
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save(1, {}, {"offset": b"mine", "b": b"1"})
        checkpoint.save(2, {}, {"b": b"2"})
        assert checkpoint.offset() == 2
        assert [checkpoint.meta(name) for name in ("offset", "b")] == [b"mine", b"2"]


@given(STEPS)
def test_it_is_a_dictionary_of_dictionaries(
    steps: list[tuple[dict[str, list[tuple[bytes, bytes | None]]], str | None]],
) -> None:
    """Saves and drops in any order leave what dictionaries would have, with keys of any length."""
    oracle: dict[str, dict[bytes, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder, Checkpoint(Path(folder)) as checkpoint:
        for offset, (changes, dropped) in enumerate(steps):
            checkpoint.save(offset, changes)
            for space, cells in changes.items():
                known = oracle.setdefault(space, {})
                for key, value in cells:
                    if value is None:
                        known.pop(key, None)
                    else:
                        known[key] = value
            if dropped is not None:
                checkpoint.drop(dropped)
                oracle.pop(dropped, None)
            assert checkpoint.offset() == offset
            assert checkpoint.spaces() == tuple(sorted(oracle))
            for space in ("a", "a/1", "b", "c"):
                expected = oracle.get(space, {})
                assert sorted(checkpoint.scan(space)) == sorted(expected.items())
                asked = [*expected, b"?", b"k" * 506, b"k" * 507]
                assert checkpoint.get(space, asked) == [expected.get(key) for key in asked]


def test_hundreds_of_spaces_come_and_go(tmp_path: Path) -> None:
    """Spaces do not see one another's keys, and one that comes back is empty."""
    with Checkpoint(tmp_path) as checkpoint:
        names = [f"carrier_delay@0123456789ab/{number}" for number in range(600)]
        checkpoint.save(1, {name: [(b"k", name.encode()), (b"\xff", b"")] for name in names})
        for name in names[::2]:
            checkpoint.drop(name)
        assert checkpoint.spaces() == tuple(sorted(names[1::2]))
        assert [dict(checkpoint.scan(name)) for name in names[::2]] == [{}] * 300
        for name in names[1::2]:
            assert dict(checkpoint.scan(name)) == {b"k": name.encode(), b"\xff": b""}
        checkpoint.save(2, {names[0]: [(b"new", b"1")]})
        assert dict(checkpoint.scan(names[0])) == {b"new": b"1"}


def test_a_save_that_fails_changes_nothing(tmp_path: Path) -> None:
    """An error among the changes leaves the state and the offset as they were."""

    def cells() -> object:
        yield b"a", b"2"
        raise ZeroDivisionError

    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save(1, {VIEW: [(b"a", b"1")]}, {"m": b"1"})
        with pytest.raises(ZeroDivisionError):
            checkpoint.save(2, {"new": [(b"b", b"2")], VIEW: cells()}, {"m": b"2"})  # type: ignore[dict-item]
        with pytest.raises(BadInput):
            checkpoint.save(2, {VIEW: [(b"a", b"2")], "x" * 600: [(b"a", b"2")]})
        assert checkpoint.offset() == 1
        assert checkpoint.meta("m") == b"1"
        assert checkpoint.spaces() == (VIEW,)
        assert checkpoint.get(VIEW, [b"a"]) == [b"1"]
        checkpoint.save(2, {VIEW: [(b"a", b"2")]})
        assert checkpoint.get(VIEW, [b"a"]) == [b"2"]


def test_a_scan_is_of_one_moment(tmp_path: Path) -> None:
    """A save or a drop in the middle of a scan does not change what the scan gives."""
    with Checkpoint(tmp_path) as checkpoint:
        cells = [(b"%03d" % key, b"old") for key in range(500)]
        checkpoint.save(1, {VIEW: cells})
        scan = checkpoint.scan(VIEW)
        found = [next(scan)]
        checkpoint.save(2, {VIEW: [(key, b"new") for key, _ in cells]})
        checkpoint.drop(VIEW)
        assert [*found, *scan] == cells


def test_two_processors_do_not_mix_their_states(tmp_path: Path) -> None:
    """Whoever did not see the last save may not save or drop; a second opening here is refused."""
    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save(1, {VIEW: [(b"a", b"1")]})
        with pytest.raises(Conflict, match="already open"):
            Checkpoint(tmp_path)
        script = (
            "import sys; from pathlib import Path\n"
            "from features.stream.checkpoint import Checkpoint\n"
            "Checkpoint(Path(sys.argv[1])).save(5, {'other': [(b'a', b'5')]})"
        )
        command = [sys.executable, "-c", script, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=environment, timeout=60)
        with pytest.raises(Conflict, match="from 1 to 5"):
            checkpoint.save(2, {VIEW: [(b"a", b"2")]})
        with pytest.raises(Conflict):
            checkpoint.drop(VIEW)
        assert checkpoint.offset() == 5
        assert checkpoint.get(VIEW, [b"a"]) == [b"1"]


def test_a_kill_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    """kill -9 at random moments: offset, meta and every value are of one and the same save."""
    luck, before = random.Random(3), 0
    for _ in range(12):
        said = _saves_until_killed(tmp_path, luck.randrange(1, 40))
        assert said[0] == before + 1
        with Checkpoint(tmp_path) as checkpoint:
            before = checkpoint.offset()
            assert before >= said[-1]
            _check_one_save(checkpoint, before)


def _saves_until_killed(folder: Path, saves: int) -> list[int]:
    command = [sys.executable, "-c", SAVING, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(saves)]
        process.kill()
        return said + [int(line) for line in process.stdout if line.endswith("\n")]


def _check_one_save(checkpoint: Checkpoint, number: int) -> None:
    text = str(number).encode()
    assert checkpoint.meta("text") == text
    assert {value for _, value in checkpoint.scan("cells")} == {text * 50}
    assert [key for key, _ in checkpoint.scan("moving")] == [text]
    for space in checkpoint.spaces():
        if space.startswith("space "):
            written = space.removeprefix("space ").encode()
            assert [value for _, value in checkpoint.scan(space)] == [written * 50] * 200


def test_a_file_that_is_no_checkpoint_is_damage(tmp_path: Path) -> None:
    """Bytes that LMDB does not know are refused with a hint, and left alone."""
    (tmp_path / "data.mdb").write_bytes(b"not what was written" * 1_000)
    with pytest.raises(DamagedData, match="Hint: remove it"):
        Checkpoint(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes().startswith(b"not what")


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """The operating system's refusal is an error of ours."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable):
        Checkpoint(tmp_path / "file" / "0")


def test_a_full_disk_keeps_the_old_state(tmp_path: Path) -> None:
    """A save for which there is no room is Unavailable; the next one that fits succeeds."""
    import resource

    with Checkpoint(tmp_path) as checkpoint:
        checkpoint.save(1, {VIEW: [(b"a", b"1")]})
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
        try:
            with pytest.raises(Unavailable):
                checkpoint.save(2, {VIEW: [(b"a", b"2"), (b"b", b"x" * 1_000_000)]})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert checkpoint.offset() == 1
        assert dict(checkpoint.scan(VIEW)) == {b"a": b"1"}
        checkpoint.save(2, {VIEW: [(b"a", b"2")]})
        assert checkpoint.get(VIEW, [b"a"]) == [b"2"]
