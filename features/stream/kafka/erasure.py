"""Events out of a topic: all others are copied into a new one, which then takes its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing

from confluent_kafka.admin import AdminClient

from features.errors import Conflict
from features.stream.frames import erased, framed_again, new_append
from features.stream.kafka import generations
from features.stream.kafka.connection import Connection, answering
from features.stream.kafka.partition import NEVER, Partition
from features.stream.kafka.reader import Record
from features.stream.kafka.writer import PartitionWriter

_CHUNK = 256  # events of a transaction; memory holds so many rows

Offsets = Mapping[int, Collection[int]]


class Erasure:
    """Erases from the topic that a log is in. Every method raises Unavailable."""

    def __init__(self, connection: Connection, log: str, topic: str, row_bytes: int) -> None:
        self._connection = connection
        self._log, self._topic = log, topic
        self._row_bytes = row_bytes
        self._admin = AdminClient(connection.settings())

    def holding(self, readers: Sequence[Partition], offsets: Offsets) -> dict[int, set[int]]:
        """Those of the events that are there and say something, by partition."""
        return {
            partition: _saying(readers[partition], set(offsets[partition])) for partition in offsets
        }

    def moved(
        self, readers: Sequence[Partition], writers: Sequence[PartitionWriter], unwanted: Offsets
    ) -> str:
        """Fills a new topic and makes it the log's; its name. Conflict if somebody appends."""
        for writer in writers:
            writer.settle()  # whoever appended before cannot any more
        ends = [reader.end().offset for reader in readers]
        with answering(f"the topic {self._topic}"):
            topic = generations.begin(
                self._admin, self._log, self._topic, self._connection.deadline()
            )
        for number, reader in enumerate(readers):
            self._copy(reader, topic, number, unwanted.get(number, ()))
        if ends != [reader.end().offset for reader in readers]:
            raise Conflict(
                f"somebody else has appended to {self._topic}", "nobody may while it is erased from"
            )
        with answering(f"the topic {topic}"):
            generations.complete(self._admin, topic, self._connection.deadline())
        return topic

    def finish(self, topic: str) -> None:
        """Removes every topic that the log is no longer in, or never was."""
        with answering(f"the earlier topics of {self._log}"):
            generations.retire(self._admin, self._log, topic, self._connection.deadline())

    def _copy(self, source: Partition, topic: str, number: int, unwanted: Collection[int]) -> None:
        new = Partition(self._connection, topic, number, self._row_bytes)
        writer = PartitionWriter(self._connection, topic, number, new, self._row_bytes)
        with closing(new), closing(writer):
            for records in _chunks(source, source.offset_at(NEVER), source.end().offset):
                events = [
                    erased(record.frame)
                    if record.frame.offset in unwanted
                    else (record.frame, record.payload)
                    for record in records
                ]
                writer.put(framed_again(events, new_append()))


def _saying(reader: Partition, offsets: Collection[int]) -> set[int]:
    there = range(reader.offset_at(NEVER), reader.end().offset)
    wanted = {offset for offset in offsets if offset in there}
    if not wanted:
        return wanted
    return {
        record.frame.offset
        for records in _chunks(reader, min(wanted), max(wanted) + 1)
        for record in records
        if record.frame.offset in wanted and not record.frame.erased
    }


def _chunks(reader: Partition, start: int, end: int) -> Iterator[list[Record]]:
    """The events from an offset on, up to another."""
    while start < end:
        records = reader.records(start, min(_CHUNK, end - start))
        yield records
        start += len(records)
