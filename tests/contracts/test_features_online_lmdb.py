"""What the LMDB store promises on top: several processes, kill -9, full disks, damaged bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from features.errors import DamagedData, NotFound, Unavailable
from features.online.lmdb import LmdbStore
from features.online.store import Found, Head, Version

ROOT = Path(__file__).resolve().parents[2]
VIEW = "carrier@1a2b3c"
FIRST = Version(VIEW, 1, 1_000, 1, 7)
SECOND = Version(VIEW, 2, 2_000, 1, 8)
NEVER = (Head(0, None, 1_000),)

PRELUDE = f"""
import resource, signal, sys
from pathlib import Path
from features.errors import Unavailable
from features.online.lmdb import LmdbStore
from features.online.store import Head, Version
VIEW = {VIEW!r}
FIRST, SECOND = Version(VIEW, 1, 1_000, 1, 7), Version(VIEW, 2, 2_000, 1, 8)
store = LmdbStore(Path(sys.argv[1]))
"""

WRITES_HEADS = """
for n in range(1, int(sys.argv[2])):
    cells = [(b"key %d" % i, b"%d" % n) for i in range(20)]
    store.write_head(FIRST, 0, cells, Head(n, n, n))
    print(n, flush=True)
"""

WRITES_A_TAIL = """
def cells():
    for i in range(10_000):
        yield b"key %d" % i, bytes(1_000_000)
        print(i, flush=True)
store.write_tail(SECOND, cells())
"""

READS = """
seen = 0
while seen < int(sys.argv[2]):
    (found,) = store.read([(VIEW, b"a")], 10**9)
    assert found.version.number >= seen, (found, seen)
    assert found.tail == b"%d" % found.version.number, found
    assert found.heads in ((None,), (b"%d" % found.version.number,)), found
    if found.version.number > seen:
        seen = found.version.number
        print(seen, flush=True)
"""

FILLS_THE_DISK = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for write in (
    lambda: store.write_tail(SECOND, ((b"key %d" % i, bytes(1_000)) for i in range(20_000))),
    lambda: store.write_head(FIRST, 0, [(b"a", b"half"), (b"b", bytes(500_000))], Head(9, 9, 9)),
):
    try:
        write()
    except Unavailable as error:
        print(type(error).__name__, flush=True)
store.write_head(FIRST, 0, [(b"a", b"small")], Head(2, 2, 2))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a store with one version of a view, published."""
    root = tmp_path / "online"
    store = LmdbStore(root)
    store.write_tail(FIRST, [(b"a", b"1")])
    store.publish(FIRST)
    return root


@contextmanager
def process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs a program; killed at the end if it still does."""
    running = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    with running, running.stdout:
        try:
            yield running
        finally:
            running.kill()


def said(running: subprocess.Popen[str], until: int) -> int:
    """Waits until a process has printed a number at least that high, and returns it."""
    assert running.stdout is not None
    for line in running.stdout:
        if int(line) >= until:
            return int(line)
    raise AssertionError("The process ended before.")


def one(store: LmdbStore, key: bytes = b"a") -> Found:
    """What is known of one entity."""
    (found,) = store.read([(VIEW, key)], 9_000)
    return found


def names(root: Path) -> list[str]:
    """The files of a store, without its lock files."""
    return sorted(path.suffix for path in root.iterdir() if not path.name.endswith("-lock"))


def overwrite(root: Path, pattern: str, old: bytes) -> None:
    """Flips a bit of these bytes wherever they are in files of a kind."""
    hits = 0
    for path in root.glob(pattern):
        data = path.read_bytes()
        hits += data.count(old)
        with path.open("r+b") as file:
            at = data.find(old)
            while at >= 0:
                file.seek(at)
                file.write(bytes([old[0] ^ 1]))
                at = data.find(old, at + 1)
    assert hits


def test_cells_and_position_are_of_one_moment(root: Path) -> None:
    """While another process writes n everywhere, a read finds n in every cell and as position."""
    store, last = LmdbStore(root), 400
    wanted = [(VIEW, b"key %d" % i) for i in range(20)]
    moments = set()
    with process(WRITES_HEADS, root, last + 1) as writer:
        said(writer, 1)
        while last not in moments:
            found = store.read(wanted, 9_000)
            cells = {int(cell) for each in found if (cell := each.heads[0]) is not None}
            assert len(cells) == 1, "the cells of one read differ"
            n = cells.pop()
            assert {each.positions for each in found} == {(Head(n, n, n),)}
            moments.add(n)
        assert writer.wait(60) == 0
    assert len(moments) > 10, "the reads saw too little of the writing to prove anything"


def test_a_new_head_is_seen_at_once(root: Path) -> None:
    """A reader that has the version open already sees the first write of another process."""
    store = LmdbStore(root)
    assert one(store, b"key 3") == Found(FIRST, None, (None,), NEVER)
    with process(WRITES_HEADS, root, 2) as writer:
        assert writer.wait(60) == 0
    assert one(store, b"key 3") == Found(FIRST, None, (b"1",), (Head(1, 1, 1),))


def test_another_process_reads_while_versions_are_dropped(root: Path) -> None:
    """It reads on without an error, sees every version whole, and none goes backwards."""
    store, last = LmdbStore(root), 60
    before = FIRST
    with process(READS, root, last) as reader:
        said(reader, 1)
        for number in range(2, last + 1):
            version = Version(VIEW, number, number * 1_000, 1)
            store.write_tail(version, [(b"a", b"%d" % number)])
            store.write_head(version, 0, [(b"a", b"%d" % number)], Head(1, 1, 1))
            store.publish(version)
            store.drop(before)
            before = version
        assert reader.wait(60) == 0
    assert names(root) == [".head", ".lmdb", ".tail"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is mapped")
def test_what_was_dropped_is_closed(root: Path) -> None:
    """Neither the process that drops nor one that reads keeps the files of a dropped version."""
    store, other = LmdbStore(root), LmdbStore(root)
    store.write_head(FIRST, 0, [(b"a", b"1")], Head(1, 1, 1))
    assert one(store) == one(other)
    store.write_tail(SECOND, [(b"a", b"2")])
    store.publish(SECOND)
    store.drop(FIRST)
    assert one(other).version == SECOND
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = [line for line in maps if str(root) in line]
    assert len(mapped) >= 2
    assert [line for line in mapped if "(deleted)" in line] == []


@pytest.mark.parametrize("written", [0, 1, 40])
def test_kill_while_a_tail_is_written(root: Path, written: int) -> None:
    """The version is not there, the old one is, and the next write removes what was left over."""
    store = LmdbStore(root)
    with process(WRITES_A_TAIL, root) as writer:
        said(writer, written)
        assert names(root) == [".lmdb", ".tail", ".tail"]
        store.write_tail(Version("other@1", 1, 0), [])
        assert names(root) == [".lmdb", ".tail", ".tail", ".tail"], "a tail is still being built"
        writer.kill()
    with pytest.raises(NotFound):
        store.publish(SECOND)
    assert one(store) == Found(FIRST, b"1", (None,), NEVER)
    store.write_tail(Version("other@1", 1, 0), [])
    assert names(root) == [".lmdb", ".tail", ".tail"]


@pytest.mark.parametrize("written", [1, 2, 37, 150])
def test_kill_while_a_head_is_written(root: Path, written: int) -> None:
    """The head is as of some write that was begun: never older than the last that returned."""
    with process(WRITES_HEADS, root, 10**9) as writer:
        said(writer, written)
        writer.kill()
        assert writer.stdout is not None
        last = max([written, *map(int, writer.stdout.read().split())])
    store = LmdbStore(root)
    found = store.read([(VIEW, b"key %d" % i) for i in range(20)], 9_000)
    assert {each.heads for each in found} in ({(b"%d" % n,)} for n in (last, last + 1))
    assert {(int(each.heads[0] or b""), each.positions[0].offset) for each in found} in (
        {(n, n)} for n in (last, last + 1)
    )
    store.write_head(FIRST, 0, [(b"a", b"on")], Head(last + 2, 1, 1))
    assert one(store).heads == (b"on",)


def test_a_full_disk_leaves_nothing_half_written(root: Path) -> None:
    """Unavailable for a tail and for a head; both are as before, and small writes still pass."""
    store = LmdbStore(root)
    store.write_head(FIRST, 0, [(b"a", b"before")], Head(1, 1, 1))
    with process(FILLS_THE_DISK, root) as writer:
        assert writer.stdout is not None
        assert writer.stdout.read().split() == ["Unavailable", "Unavailable"]
        assert writer.wait(60) == 0
    assert names(root) == [".head", ".lmdb", ".tail"]
    with pytest.raises(NotFound):
        store.publish(SECOND)
    assert one(store) == Found(FIRST, b"1", (b"small",), (Head(2, 2, 2),))


def test_a_full_head_says_so(tmp_path: Path) -> None:
    """A head that reaches its limit is Unavailable, and stays as it was."""
    store = LmdbStore(tmp_path / "online", head_bytes=1 << 17)
    store.write_tail(FIRST, [])
    store.publish(FIRST)
    store.write_head(FIRST, 0, [(b"a", b"before")], Head(1, 1, 1))
    with pytest.raises(Unavailable, match="full"):
        store.write_head(FIRST, 0, [(b"a", b"after"), (b"b", bytes(1 << 18))], Head(2, 2, 2))
    assert one(store) == Found(FIRST, None, (b"before",), (Head(1, 1, 1),))


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    """A store where there is a file is Unavailable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be reached"):
        LmdbStore(tmp_path / "file" / "online")


@pytest.mark.parametrize("kind", ["tail", "head"])
def test_a_damaged_cell_is_not_an_answer(root: Path, kind: str) -> None:
    """One flipped bit of a cell: DamagedData for that entity, and the others are still read."""
    store = LmdbStore(root)
    store.write_tail(FIRST, [(b"a", b"tail of a"), (b"b", b"tail of b")])
    store.write_head(FIRST, 0, [(b"a", b"head of a"), (b"b", b"head of b")], Head(1, 1, 1))
    overwrite(root, f"*.{kind}", f"{kind} of a".encode())
    with pytest.raises(DamagedData, match="cell"):
        one(store)
    assert one(store, b"b").heads == (b"head of b",)


def test_a_damaged_position_is_not_an_answer(root: Path) -> None:
    """One flipped bit of a head's position: DamagedData, for readers and for the writer."""
    store, offset = LmdbStore(root), 0x1122334455667788
    store.write_head(FIRST, 0, [(b"a", b"head")], Head(offset, 1, 1))
    overwrite(root, "*.head", offset.to_bytes(8, "little"))
    with pytest.raises(DamagedData, match="position"):
        one(LmdbStore(root))
    with pytest.raises(DamagedData, match="position"):
        store.write_head(FIRST, 0, [], Head(offset + 1, 1, 1))


def test_a_damaged_tail_is_not_published(root: Path) -> None:
    """A flipped bit anywhere in a tail is found when it is published; the old version stays."""
    store = LmdbStore(root)
    store.write_tail(SECOND, [(b"the key of an entity", b"2")])
    overwrite(root, "*.tail", b"the key of an entity")
    with pytest.raises(DamagedData):
        store.publish(SECOND)
    assert store.versions(VIEW) == (FIRST,)


@pytest.mark.parametrize("keep", [0, 100, 8_192, None])
def test_a_tail_that_is_cut_off_or_gone_is_damaged(root: Path, keep: int | None) -> None:
    """A file that is shorter than it was, or missing, is DamagedData and not an empty tail."""
    (tail,) = root.glob("*.tail")
    if keep is None:
        tail.unlink()
    else:
        os.truncate(tail, keep)
    store = LmdbStore(root)
    for attempt in (lambda: one(store), lambda: store.publish(FIRST)):
        with pytest.raises(DamagedData):
            attempt()


def test_a_head_that_is_gone_is_damaged(root: Path) -> None:
    """A missing file is not an empty head, for readers and for the writer."""
    LmdbStore(root).write_head(FIRST, 0, [(b"a", b"head")], Head(1, 1, 1))
    (head,) = root.glob("*.head")
    head.unlink()
    store = LmdbStore(root)
    for attempt in (
        lambda: one(store),
        lambda: store.write_head(FIRST, 0, [], Head(2, 2, 2)),
    ):
        with pytest.raises(DamagedData):
            attempt()


def test_a_damaged_list_of_versions_is_not_an_empty_one(root: Path) -> None:
    """One flipped bit in what is known of a view: DamagedData; other views are read as before."""
    store, other = LmdbStore(root), Version("other@1", 1, 0)
    store.write_tail(other, [(b"a", b"other")])
    store.publish(other)
    overwrite(root, "versions.lmdb", f'"view":"{VIEW}"'.encode())
    damaged = LmdbStore(root)
    for attempt in (
        lambda: one(damaged),
        lambda: damaged.versions(VIEW),
        lambda: damaged.write_tail(SECOND, []),
        lambda: damaged.publish(FIRST),
        lambda: damaged.drop(SECOND),
    ):
        with pytest.raises(DamagedData):
            attempt()
    assert damaged.read([("other@1", b"a")], 0)[0].tail == b"other"
    assert damaged.versions("other@1") == (other,)


def test_a_tail_larger_than_the_first_map(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail grows as far as it must, and no cell is lost where its file was enlarged."""
    monkeypatch.setattr("features.online.lmdb.files._TAIL_BYTES", 1 << 16)
    monkeypatch.setattr("features.online.lmdb.files._CHUNK_BYTES", 1 << 17)
    store = LmdbStore(root)
    cells = [(b"key %d" % i, b"%d" % i * 100) for i in range(5_000)]
    assert store.write_tail(SECOND, cells) == 5_000
    store.publish(SECOND)
    found = store.read([(VIEW, key) for key, _ in cells], 9_000)
    assert [each.tail for each in found] == [cell for _, cell in cells]
