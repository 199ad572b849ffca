"""The event log on a real Kafka: what every log promises, and what happens when the broker dies."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from hypothesis import given, settings

from features.clock import SystemClock
from features.errors import BadInput, Conflict, DamagedData, NotFound
from features.stream.frames import framed, new_append
from features.stream.kafka import KafkaLog
from features.stream.kafka.erasure import Erasure
from features.stream.log import EventLog
from features.testing import ManualClock
from tests.contracts import event_log as promises
from tests.contracts import event_log_erasure as erasure_promises
from tests.contracts.event_log import *  # noqa: F403
from tests.contracts.event_log import Make, Place, numbered
from tests.contracts.event_log_erasure import *  # noqa: F403
from tests.contracts.event_log_servers import *  # noqa: F403
from tests.contracts.event_log_servers import TIMEOUT_S, Mortal
from tests.servers.kafka import KafkaServer, kafka_server

pytestmark = pytest.mark.kafka

_names = (f"tondo.test{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A Kafka for the promises that leave it alone."""
    with kafka_server(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    """A Kafka that a test may kill."""
    with kafka_server(tmp_path) as running, ExitStack() as opened:
        # The first transaction of all makes a topic of Kafka's own, which takes a while.
        with closing(KafkaLog(running.servers, "first", 1, SystemClock(), timeout_s=60)) as first:
            first.append(0, numbered(1))

        def open_log(partitions: int) -> EventLog:
            log = KafkaLog(running.servers, "log", partitions, SystemClock(), timeout_s=TIMEOUT_S)
            return opened.enter_context(closing(log))

        yield Mortal(running, open_log)


@contextmanager
def on_kafka(server: KafkaServer) -> Iterator[Make]:
    """A name for a topic that nobody has used."""
    name = next(_names)
    with ExitStack() as opened:

        def make(partitions: int, clock: ManualClock) -> EventLog:
            log = KafkaLog(server.servers, name, partitions, clock)
            return opened.enter_context(closing(log))

        yield make


@pytest.fixture(scope="module")
def place(server: KafkaServer) -> Place:
    """Kafka."""
    return lambda: on_kafka(server)


@pytest.fixture(scope="module")
def lasting(place: Place) -> Place:
    """What is in Kafka outlives who put it there."""
    return place


@settings(max_examples=6)
@given(promises.BATCHES)
def test_any_rows_survive(place: Place, batches: list[list[dict[str, Any]]]) -> None:
    """Whatever is appended, in whatever pieces, is read as it was."""
    promises.any_rows_survive(place, batches)


@settings(max_examples=5)
@given(promises.BATCHES, erasure_promises.CHOSEN)
def test_erased_are_gone(
    place: Place, batches: list[list[dict[str, Any]]], chosen: list[int]
) -> None:
    """Of any rows any may be erased; all others are read as they were."""
    erasure_promises.erased_are_gone(place, batches, chosen)


@settings(max_examples=8)
@given(promises.APPENDS, promises.QUESTIONS)
def test_times_lead_to_offsets(
    place: Place, appends: list[tuple[int, int]], questions: list[int]
) -> None:
    """``offset_at`` is the first event at that time or later, as a scan of a list would find it."""
    promises.times_lead_to_offsets(place, appends, questions)


@settings(max_examples=8)
@given(promises.SIZES, promises.READS)
def test_reads_anywhere_agree(place: Place, sizes: list[int], reads: list[tuple[int, int]]) -> None:
    """Reads at any offset, in any order, between appends, are slices of one list."""
    promises.reads_anywhere_agree(place, sizes, reads)


@pytest.fixture
def name() -> str:
    """The name of a topic that nobody has used."""
    return next(_names)


@pytest.fixture
def own(server: KafkaServer, name: str) -> Iterator[KafkaLog]:
    """A log of one partition with ten events in five appends."""
    with closing(KafkaLog(server.servers, name, 1, ManualClock(promises.START))) as log:
        for number in range(0, 10, 2):
            log.append(0, numbered(number, number + 1))
        yield log


@pytest.fixture
def admin(server: KafkaServer) -> AdminClient:
    """Somebody else at the same Kafka."""
    return AdminClient({"bootstrap.servers": server.servers})


def remove_before(admin: AdminClient, topic: str, position: int) -> None:
    """Does what retention does."""
    (asked,) = admin.delete_records([TopicPartition(topic, 0, position)]).values()
    asked.result(30)


def written_by_another(server: KafkaServer, topic: str, key: bytes, value: bytes) -> None:
    """Somebody writes into the topic who does not know what a log is."""
    producer = Producer({"bootstrap.servers": server.servers})
    producer.produce(topic, value, key, 0)
    assert producer.flush(30) == 0


def test_what_retention_removed_is_not_found(
    own: KafkaLog, server: KafkaServer, admin: AdminClient, name: str
) -> None:
    """Events go from the front; who reads on is not disturbed, and a new reader sees the same."""
    assert len(own.read(0, 0, 7)) == 7
    remove_before(admin, name, 6)  # three appends of which the third is cut: two events, a mark
    with closing(KafkaLog(server.servers, name, 1, ManualClock())) as new:
        for log in (own, new):
            with pytest.raises(NotFound, match="the first event is 4"):
                log.read(0, 3, 2)
            assert [event.offset for event in log.read(0, 4, 9)] == [4, 5, 6, 7, 8, 9]
            assert [event.offset for event in log.read(0, 7, 1)] == [7]
            assert (log.offset_at(0, 0), log.end(0)) == (4, 10)
    assert own.append(0, numbered(10)) == 11


def test_a_reader_that_was_overtaken_by_retention_is_told(
    own: KafkaLog, admin: AdminClient, name: str
) -> None:
    """It stood before what was removed: that is no end of the log."""
    assert len(own.read(0, 0, 2)) == 2
    remove_before(admin, name, 9)
    with pytest.raises(NotFound, match="first event is 6"):
        own.read(0, 2, 2)


def test_a_log_that_lost_all_its_events_has_lost_its_count(
    own: KafkaLog, server: KafkaServer, admin: AdminClient, name: str
) -> None:
    """Nobody takes it for an empty one and begins at 0 again."""
    remove_before(admin, name, -1)
    with closing(KafkaLog(server.servers, name, 1, ManualClock())) as new:
        for ask in (
            lambda: new.read(0, 0, 1),
            lambda: new.end(0),
            lambda: new.offset_at(0, 0),
            lambda: new.append(0, numbered(1)),
        ):
            with pytest.raises(DamagedData, match="their count"):
                ask()


def held(folder: Path, secret: str) -> bool:
    """Whether a file of a broker has the secret; rows are compressed, so segments are read."""
    return any(secret.encode() in p.read_bytes() for p in folder.rglob("*") if p.is_file())


def test_what_is_erased_leaves_the_disk(tmp_path: Path) -> None:
    """The log moves to another topic; the files of the old one are removed."""
    secret = secrets.token_hex(16)
    with kafka_server(tmp_path) as running:
        with closing(KafkaLog(running.servers, "log", 2, ManualClock())) as log:
            for number in range(60):
                # Rows that cannot be compressed stand in the files as they are.
                row = {"number": number, "card": secret if number < 9 else secrets.token_hex(9)}
                log.append(number % 2, [row])
            assert held(tmp_path / "data", secret)
            assert log.erase({0: range(5), 1: range(4)}) == 9
            assert log.erase({0: range(5), 1: range(4)}) == 0
            deadline = time.monotonic() + 120
            while held(tmp_path / "data", secret):
                assert time.monotonic() < deadline
                threading.Event().wait(0.1)
            assert log.append(0, numbered(60)) == 31
        with closing(KafkaLog(running.servers, "log", 2, ManualClock())) as log:
            assert [event.offset for event in log.read(0, 0, 99)] == list(range(31))
            assert [e.offset for e in log.read(0, 0, 99) if e.erased] == [0, 1, 2, 3, 4]
            assert [e.row["number"] for e in log.read(1, 4, 99)] == list(range(9, 60, 2))


@pytest.mark.parametrize("step", ["_copy", "complete", "retire"])
def test_an_erasure_that_was_cut_off_is_finished(
    own: KafkaLog, server: KafkaServer, admin: AdminClient, name: str, step: str
) -> None:
    """Wherever it was: the log is as before or as after, and the next call leaves one topic."""
    place = "erasure.Erasure._copy" if step == "_copy" else f"generations.{step}"
    with (
        patch(f"features.stream.kafka.{place}", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        own.erase({0: [1, 8]})
    with closing(KafkaLog(server.servers, name, 1, ManualClock(promises.START))) as again:
        assert [e.offset for e in again.read(0, 0, 99)] == list(range(10))
        left = 2 - sum(event.erased for event in again.read(0, 0, 99))
        assert left == (0 if step == "retire" else 2)
        assert again.append(0, numbered(10)) == 11
        assert again.erase({0: [1, 8]}) == left
        rows = [e.row["number"] for e in again.read(0, 0, 99) if not e.erased]
        assert rows == [0, *range(2, 8), 9, 10]
    topics = [topic for topic in admin.list_topics(timeout=30).topics if topic.startswith(name)]
    assert len([topic for topic in topics if topic.removeprefix(name)[:1] in ("", ".")]) == 2


def test_the_first_topic_alone_is_no_log(
    own: KafkaLog, server: KafkaServer, admin: AdminClient, name: str
) -> None:
    """Should later topics be lost, nobody begins at offset 0 again."""
    assert own.erase({0: [1]}) == 1
    (gone,) = admin.delete_topics([f"{name}.g1"]).values()
    gone.result(30)
    with pytest.raises(Conflict, match=r"retention\.ms"):
        KafkaLog(server.servers, name, 1, ManualClock())


def test_a_log_that_grows_is_not_erased_from(own: KafkaLog, server: KafkaServer, name: str) -> None:
    """Whoever appends while events are copied is not lost: the erasure gives up."""
    copy = Erasure._copy

    def and_grows(self: Erasure, *given: Any) -> None:
        copy(self, *given)
        with closing(KafkaLog(server.servers, name, 1, ManualClock())) as other:
            other.append(0, numbered(10))

    with patch.object(Erasure, "_copy", and_grows), pytest.raises(Conflict, match="append"):
        own.erase({0: [1]})
    assert [event.row["number"] for event in own.read(0, 0, 99)] == list(range(11))
    assert own.erase({0: [1]}) == 1
    assert len([event for event in own.read(0, 0, 99) if not event.erased]) == 10


def test_what_is_left_by_retention_is_erased(
    own: KafkaLog, server: KafkaServer, admin: AdminClient, name: str
) -> None:
    """The log goes on at the offset where it began; many rows take several transactions."""
    remove_before(admin, name, 6)
    own.append(0, numbered(*range(10, 700)))
    assert own.erase({0: [2, 699, 6]}) == 2
    with closing(KafkaLog(server.servers, name, 1, ManualClock(promises.START + 5))) as new:
        for log in (own, new):
            events = log.read(0, 4, 999)
            assert [event.offset for event in events] == list(range(4, 700))
            assert [event.offset for event in events if event.erased] == [6, 699]
            with pytest.raises(NotFound, match="the first event is 4"):
                log.read(0, 3, 2)
            assert [log.read(0, n, 1)[0].offset for n in (4, 300, 511, 512, 699)] == [
                4, 300, 511, 512, 699,
            ]  # fmt: skip
        assert new.append(0, numbered(700)) == 701
        assert new.offset_at(0, promises.START + 1) == 700


def test_what_was_not_committed_is_not_there(own: KafkaLog, server: KafkaServer, name: str) -> None:
    """Rows of a writer that died are seen by nobody, and leave neither a gap nor a delay."""
    other = Producer({"bootstrap.servers": server.servers, "transactional.id": f"{name}-0"})
    other.init_transactions(30)
    for _ in range(3):
        other.begin_transaction()
        for _row in range(40):
            other.produce(name, b"{}", b"?" * 40, 0)
        other.flush(30)
        assert (own.end(0), own.read(0, 10, 9)) == (10, [])
        other.abort_transaction(30)
    assert (own.end(0), own.read(0, 10, 9)) == (10, [])
    other.begin_transaction()
    other.produce(name, b"{}", b"?" * 40, 0)
    other.flush(30)
    with pytest.raises(Conflict, match="somebody else"):
        own.append(0, numbered(10))
    assert own.append(0, numbered(10)) == 11
    assert [event.row["number"] for event in own.read(0, 8, 9)] == [8, 9, 10]
    with closing(KafkaLog(server.servers, name, 1, ManualClock())) as new:
        assert (new.end(0), new.offset_at(0, promises.START + 1)) == (11, 11)
        assert [e.row["number"] for n in range(11) for e in new.read(0, n, 1)] == list(range(11))


def test_an_append_whose_answer_was_lost_is_found(
    own: KafkaLog, server: KafkaServer, name: str
) -> None:
    """Committed, and then the client only hears of a failure: the append is not made again."""
    writer = own._writers[0]
    send = writer._send

    def send_and_fail(*given: Any) -> None:
        send(*given)
        writer._send = send  # type: ignore[method-assign]
        raise KafkaException(KafkaError(KafkaError.UNKNOWN))

    writer._send = send_and_fail  # type: ignore[method-assign]
    assert own.append(0, numbered(10, 11)) == 12
    assert own.append(0, numbered(12)) == 13
    with closing(KafkaLog(server.servers, name, 1, ManualClock())) as new:
        assert [event.row["number"] for event in new.read(0, 9, 9)] == [9, 10, 11, 12]


def test_what_others_write_is_damage(own: KafkaLog, server: KafkaServer, name: str) -> None:
    """A message that is no event is never skipped, nor an event that is not the next one."""
    assert len(own.read(0, 0, 99)) == 10
    written_by_another(server, name, b"key", b"value")
    for ask in (lambda: own.read(0, 10, 1), lambda: own.end(0), lambda: own.read(0, 3, 9)):
        with pytest.raises(DamagedData, match="position 15 of"):
            ask()


def test_a_copy_of_an_event_is_damage(own: KafkaLog, server: KafkaServer, name: str) -> None:
    """An event that stands where another one should."""
    (frame, row) = framed([(b'{"number":3}', False)], 3, promises.START, new_append())[0]
    written_by_another(server, name, frame, row)
    with closing(KafkaLog(server.servers, name, 1, ManualClock())) as new:
        for log in (own, new):
            for ask in (lambda log=log: log.read(0, 8, 9), lambda log=log: log.end(0)):
                with pytest.raises(DamagedData, match="event 10 is missing"):
                    ask()


@pytest.mark.parametrize(
    "config", [{"cleanup.policy": "compact"}, {"retention.ms": "3600000"}], ids=str
)
def test_a_topic_that_loses_events_is_refused(
    server: KafkaServer, admin: AdminClient, name: str, config: dict[str, str]
) -> None:
    """One that somebody made to keep only some, or only for a time."""
    given = {"retention.ms": "-1"} | config
    (made,) = admin.create_topics([NewTopic(name, 1, 1, config=given)]).values()
    made.result(30)
    with pytest.raises(Conflict, match=next(iter(config.values()))):
        KafkaLog(server.servers, name, 1, ManualClock())


def test_a_row_that_is_too_large_is_bad_input(server: KafkaServer, name: str) -> None:
    """It is refused by its number, and nothing of its append is added; the largest one fits."""
    with closing(KafkaLog(server.servers, name, 1, ManualClock(), row_bytes=3 << 20)) as log:
        with pytest.raises(BadInput, match="row 1 "):
            log.append(0, [{"x": "a"}, {"x": "a" * (3 << 20)}])
        rows = [{"x": f"{number}" * ((3 << 20) - 8)} for number in range(3)]
        assert log.append(0, rows) == 3
        assert [event.row for event in log.read(0, 0, 9)] == rows


def test_one_replica_writes_to_the_disk(server: KafkaServer, admin: AdminClient, name: str) -> None:
    """Where no other broker has an event, the topic is told to flush each batch."""
    with closing(KafkaLog(server.servers, name, 1, ManualClock())):
        resource = ConfigResource(ResourceType.TOPIC, name)
        (asked,) = admin.describe_configs([resource]).values()
        found = asked.result(30)
        assert found["flush.messages"].value == "1"
        assert found["retention.ms"].value == "-1"
