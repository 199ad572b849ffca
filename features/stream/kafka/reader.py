"""Reading one partition of a topic, by Kafka's own positions."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from features.errors import NotFound
from features.stream.frames import Frame, read_frame
from features.stream.kafka.connection import Connection, Deadline, unavailable

_CHUNK = 10_000
_PATIENCE_S = 1.0
_GROUP = "tondo"  # every consumer must name one; nothing is committed to it


class Record(NamedTuple):
    """An event at its position in Kafka; ``after`` is where the next one can be at the earliest."""

    position: int
    key: bytes
    frame: Frame
    payload: bytes

    @property
    def after(self) -> int:
        """Behind the last event of an append stands the mark that commits it."""
        return self.position + (2 if self.frame.last else 1)


class Extent(NamedTuple):
    """The first position that is kept, and that behind everything that is committed."""

    low: int
    high: int


class PartitionReader:
    """A consumer of one partition that reads on, or anew from a position; one thread at a time.

    It fetches only while somebody reads. Every method raises Unavailable at the deadline.
    """

    def __init__(self, connection: Connection, topic: str, partition: int, row_bytes: int) -> None:
        self._topic, self._partition = topic, partition
        self.name = f"{topic}/{partition}"
        self._consumer = Consumer(
            connection.settings(
                group_id=_GROUP,
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="error",
                check_crcs=True,
                fetch_wait_max_ms=5,
                fetch_error_backoff_ms=20,
                fetch_queue_backoff_ms=20,
                fetch_message_max_bytes=max(1 << 20, row_bytes),
                fetch_max_bytes=row_bytes + (64 << 20),
                receive_message_max_bytes=row_bytes + (65 << 20),
                queued_max_messages_kbytes=65_536,
            )
        )
        self._position: int | None = None
        self._why: object = "no answer in time"

    def extent(self, deadline: Deadline) -> Extent:
        """What there is to read now."""
        while True:
            try:
                found = self._consumer.get_watermark_offsets(
                    self._place(), timeout=deadline.left, cached=False
                )
                if found is not None:
                    return Extent(*found)
            except KafkaException as error:
                self._why = error.args[0].str()
            if deadline.is_over:
                raise unavailable(self.name, self._why)
            self._stop()  # what the wait meets is not looked at
            self._consumer.poll(min(deadline.left, 0.05))

    def first(self, position: int, high: int, deadline: Deadline) -> Record | None:
        """The first event at a position or after it."""
        found = self.records(position, high, 1, deadline)
        return found[0] if found else None

    def records(self, position: int, high: int, limit: int, deadline: Deadline) -> list[Record]:
        """Up to ``limit`` events from a position on, of those before ``high``.

        Raises NotFound if the position is no longer kept, DamagedData for what is no event.
        """
        found: list[Record] = []
        if position >= high or limit < 1:
            return found
        try:
            self._go(position)
            while len(found) < limit and self._at() < high:
                for message in self._some(min(limit - len(found), _CHUNK), deadline):
                    record = self._record(message)
                    if record is not None:
                        found.append(record)
        except BaseException:
            self._stop()
            raise
        if self._at() >= high or limit == 1:
            self._stop()
        # Of what was committed meanwhile, only a part may have come.
        return [record for record in found if record.position < high]

    def close(self) -> None:
        """Ends the consumer."""
        self._consumer.close()

    def _at(self) -> int:
        return self._position or 0

    def _go(self, position: int) -> None:
        if self._position != position:
            self._consumer.assign([self._place(position)])
            self._position = position

    def _stop(self) -> None:
        """Fetches no more: nobody reads on, or from elsewhere."""
        self._position = None
        self._consumer.unassign()

    def _some(self, limit: int, deadline: Deadline) -> list[Message]:
        """At least one message; raises Unavailable if none comes."""
        while True:
            message = self._consumer.poll(min(_PATIENCE_S, deadline.left))
            if message is not None:
                more = self._consumer.consume(limit - 1, 0) if limit > 1 else []
                return [message, *more]
            if deadline.is_over:
                raise unavailable(self.name, self._why)
            self._consumer.assign([self._place(self._at())])

    def _record(self, message: Message) -> Record | None:
        """The event of a message; None for one that only tells how far Kafka is."""
        error, position = message.error(), message.offset() or 0
        if error is None:
            where = f"event at position {position} of {self.name}"
            key, payload = _bytes(message.key()), _bytes(message.value())
            record = Record(position, key, read_frame(key, payload, where), payload)
            self._position = record.after
            return record
        if error.code() == KafkaError._PARTITION_EOF:
            self._position = max(self._at(), position)
        elif error.code() in _REMOVED:
            raise NotFound(
                f"position {self._position} of {self.name} is no longer kept",
                "read from a later offset",
            )
        else:
            self._why = error.str()
        return None

    def _place(self, position: int = 0) -> TopicPartition:
        return TopicPartition(self._topic, self._partition, position)


_REMOVED = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
