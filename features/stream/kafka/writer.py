"""Appending to one partition of a topic: a transaction for each append, one writer at a time.

Whoever appends first takes the partition over from who had it, by the transactional id that they
share: Kafka lets no other writer go on, and settles what that one had begun.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Producer

from features.clock import Clock
from features.errors import Conflict, Unavailable
from features.stream.frames import framed, new_append
from features.stream.kafka.connection import Connection, Deadline, answering, unavailable
from features.stream.kafka.partition import End, Partition
from features.stream.rows import Packed

_FENCED = (
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
)


class PartitionWriter:
    """The producer of one partition, from the first append on; threads take turns."""

    def __init__(
        self, connection: Connection, topic: str, number: int, partition: Partition, row_bytes: int
    ) -> None:
        self._connection = connection
        self._topic, self._number = topic, number
        self._partition = partition
        self._message_bytes = row_bytes + (1 << 16)
        self._producer: Producer | None = None
        self._end = End(0, 0, 0)
        # A request that nobody waited for any more may still reach the broker, and fence whoever
        # came after it in this very process. So until an append succeeds, fenced is not overtaken.
        self._is_in_doubt = False
        self._lock = threading.Lock()

    def append(self, rows: Sequence[Packed], clock: Clock) -> int:
        """Adds rows, all or none, and returns the offset after the last one.

        Raises Conflict if somebody else has taken the partition over; then nothing was added, and
        the next append takes it back.
        """
        deadline = self._connection.deadline()
        with self._lock:
            return self._added(rows, clock, deadline, tries=2)

    def settle(self) -> int:
        """Takes the partition over unless it is held already, and returns its end."""
        deadline = self._connection.deadline()
        with self._lock:
            self._taken(deadline)
            return self._end.offset

    def put(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Adds frames and rows as they are, all or none; for a topic that is not read yet.

        Raises Unavailable if that is not certain; then the topic is of no use.
        """
        deadline = self._connection.deadline()
        with self._lock, answering(self._partition.name):
            try:
                self._send(self._taken(deadline), entries, deadline)
            except BaseException:
                self._drop()
                raise

    def close(self) -> None:
        """Lets go of the producer."""
        with self._lock:
            self._drop()

    def _taken(self, deadline: Deadline) -> Producer:
        """The producer, once nothing is in doubt that was appended before."""
        if self._producer is None:
            producer = Producer(
                self._connection.settings(
                    transactional_id=f"{self._topic}-{self._number}",
                    message_max_bytes=self._message_bytes,
                    queue_buffering_max_kbytes=1 << 20,
                    queue_buffering_max_messages=1_000_000,
                    compression_type="lz4",
                    linger_ms=5,
                )
            )
            try:
                producer.init_transactions(deadline.left)
            except KafkaException as error:
                self._is_in_doubt |= not _is_fenced(error)
                raise self._refused(error) from error
            self._end = self._partition.end(deadline)
            self._producer = producer
        return self._producer

    def _added(self, rows: Sequence[Packed], clock: Clock, deadline: Deadline, tries: int) -> int:
        producer = self._taken(deadline)
        end, now = self._end, max(clock.now(), self._end.before)
        entries = framed(rows, end.offset, now, new_append())
        try:
            self._send(producer, entries, deadline)
            # Behind the rows stands the mark of their commit; then they can be read.
            self._end = End(end.offset + len(rows), now, end.high + len(rows) + 1)
            self._partition.wait_for(self._end, deadline)
        except KafkaException as error:
            self._drop()
            self._is_in_doubt |= not _is_fenced(error)
            if not self._stands(end.offset, entries[0][0], error, deadline):
                left = tries - (not _is_fenced(error))
                if not left:
                    raise self._refused(error) from error
                return self._added(rows, clock, deadline, left)
        except BaseException:
            self._drop()
            self._is_in_doubt = True
            raise
        self._is_in_doubt = False
        return end.offset + len(rows)

    def _send(
        self, producer: Producer, entries: Sequence[tuple[bytes, bytes]], deadline: Deadline
    ) -> None:
        producer.begin_transaction()
        for frame, row in entries:
            self._produce(producer, frame, row, deadline)
        producer.commit_transaction(deadline.left)

    def _stands(self, offset: int, frame: bytes, error: KafkaException, deadline: Deadline) -> bool:
        """True if an append was made although it failed, once nobody can make it any more.

        Raises Unavailable if that cannot be found out, and Conflict if another writer hindered it.
        """
        is_overtaken = _is_fenced(error) and not self._is_in_doubt
        if not is_overtaken:
            if deadline.is_over:
                raise unavailable(self._partition.name, error.args[0].str()) from error
            self._taken(deadline)
        if self._partition.has(offset, frame, deadline):
            return True
        if is_overtaken:
            raise self._refused(error) from error
        return False

    def _produce(self, producer: Producer, frame: bytes, row: bytes, deadline: Deadline) -> None:
        while True:
            try:
                producer.produce(self._topic, row, frame, self._number)
            except BufferError:  # it is full: what is under way must arrive first
                if deadline.is_over:
                    raise unavailable(
                        self._partition.name, "it takes the rows too slowly"
                    ) from None
                producer.poll(min(deadline.left, 0.05))
            else:
                return

    def _refused(self, error: KafkaException) -> Conflict | Unavailable:
        """What a failure means."""
        if not _is_fenced(error) or self._is_in_doubt:
            return unavailable(self._partition.name, error.args[0].str())
        return Conflict(
            f"somebody else has begun to append to {self._partition.name}",
            "one process at a time may append to a partition: end the other, or try again",
        )

    def _drop(self) -> None:
        """Forgets the producer; the next one settles what this one may have left."""
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.purge(blocking=False)
        self._producer = None


def _is_fenced(error: KafkaException) -> bool:
    return error.args[0].code() in _FENCED
