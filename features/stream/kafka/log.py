"""The event log as a Kafka topic: an event is a message, its frame the key, its row the value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from features.clock import Clock
from features.errors import BadInput
from features.stream.kafka.connection import Connection
from features.stream.kafka.erasure import Erasure
from features.stream.kafka.partition import Partition
from features.stream.kafka.topic import open_topic
from features.stream.kafka.writer import PartitionWriter
from features.stream.log import Event
from features.stream.partitions import check_count, check_partition
from features.stream.rows import Packed, pack_rows

ROW_BYTES = 16 << 20
"""What one row may come to."""


class KafkaLog:
    """Implements EventLog in one topic, which is made if it is not there.

    An append is one transaction: durable on all replicas that are in sync before it returns, or on
    the disk where there is only one. Whoever appends takes the partition over: who had it gets
    Conflict and may take it back. ``timeout_s`` is the longest that a call waits for the brokers.
    Opening a topic with another number of partitions, or one that may lose all of its events,
    raises Conflict.

    If Unavailable is raised by an append whose answer was lost, all of it may stand, never a part.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        partitions: int,
        clock: Clock,
        *,
        timeout_s: float = 10.0,
        replication: int = 1,
        row_bytes: int = ROW_BYTES,
    ) -> None:
        check_count(partitions)
        self._connection = Connection(servers, timeout_s)
        self._row_bytes = row_bytes
        self._clock = clock
        self._name = topic
        found = open_topic(self._connection, topic, partitions, replication, row_bytes)
        self._use(found, partitions)

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._readers)

    def append(self, partition: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Adds rows in their order and returns the offset after the last one, once durable.

        Raises BadInput too for a row that is larger than ``row_bytes``, and Conflict if somebody
        else has taken the partition over meanwhile; nothing was added then.
        """
        packed = pack_rows(rows)
        check_partition(partition, self.partitions)
        self._check_size(packed)
        writer = self._writers[partition]
        return writer.append(packed, self._clock) if packed else writer.settle()

    def read(self, partition: int, offset: int, limit: int) -> list[Event]:
        """Up to ``limit`` events from an offset on; none at the end of the log."""
        check_partition(partition, self.partitions)
        return self._readers[partition].read(offset, limit)

    def end(self, partition: int) -> int:
        """The offset that the next event will have."""
        check_partition(partition, self.partitions)
        return self._readers[partition].end().offset

    def offset_at(self, partition: int, appended_at: int) -> int:
        """The first offset whose event was appended at that time (UTC µs) or later, or the end."""
        check_partition(partition, self.partitions)
        return self._readers[partition].offset_at(appended_at)

    def erase(self, offsets: Mapping[int, Collection[int]]) -> int:
        """Removes what these events say for good and returns how many there were still.

        The log moves to a new topic, into which everything else is copied, and the brokers need
        the space of both meanwhile. Other logs of this topic, in whatever process, must be closed.
        """
        for partition in offsets:
            check_partition(partition, self.partitions)
        erasure = Erasure(self._connection, self._name, self._topic, self._row_bytes)
        holding = erasure.holding(self._readers, offsets)
        if any(holding.values()):
            topic = erasure.moved(self._readers, self._writers, holding)
            self.close()
            self._use(topic, self.partitions)
        erasure.finish(self._topic)
        return sum(map(len, holding.values()))

    def remains(self) -> tuple[str, ...]:
        """The files of the topic that was replaced."""
        return (
            f"files of earlier topics of {self._name}: until the brokers remove them, within "
            "log.retention.check.interval.ms and log.segment.delete.delay.ms "
            "(six minutes unless set otherwise); on a broker that is down, once it is back",
        )

    def close(self) -> None:
        """Ends the connections to the brokers."""
        for writer in self._writers:
            writer.close()
        for reader in self._readers:
            reader.close()

    def _use(self, topic: str, partitions: int) -> None:
        """Reads and writes a topic from now on."""
        connection, row_bytes = self._connection, self._row_bytes
        self._topic = topic
        self._readers = [Partition(connection, topic, p, row_bytes) for p in range(partitions)]
        self._writers = [
            PartitionWriter(connection, topic, p, reader, row_bytes)
            for p, reader in enumerate(self._readers)
        ]

    def _check_size(self, rows: Sequence[Packed]) -> None:
        for number, (payload, _) in enumerate(rows):
            if len(payload) > self._row_bytes:
                raise BadInput(
                    f"row {number} comes to {len(payload)} bytes, more than {self._row_bytes}",
                    "keep large things elsewhere, and in the row where they are",
                )
