"""The topics that a log has had: Kafka cannot change an event, so an erasure begins another topic.

The first is named like the log, later ones carry a number. A topic that is being filled keeps its
events for a week; once it is whole it keeps them for ever, and that makes it the log's. So whoever
fills one and dies leaves nothing that counts, and nothing that stays. The first topic stays,
emptied and told to keep nothing: nobody who sees it alone takes it for a log that begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from features.stream.kafka.connection import Deadline, unavailable

FOR_EVER = "-1"
_WEEK = str(7 * 86_400_000)
_NOTHING = "1000"
_RETENTION = "retention.ms"


def current(admin: AdminClient, log: str, deadline: Deadline) -> str:
    """The topic that a log is in, or would be if it has none."""
    later = [_named(log, number) for number in reversed(_numbers(admin, log, deadline))]
    return next((t for t in later if _retention(admin, t, deadline) == FOR_EVER), log)


def begin(admin: AdminClient, log: str, topic: str, deadline: Deadline) -> str:
    """Makes an empty topic that is like ``topic``, and returns its name."""
    new = _named(log, max([0, *_numbers(admin, log, deadline)]) + 1)
    found = admin.list_topics(topic, timeout=deadline.left).topics[topic].partitions
    config = {
        name: str(entry.value)
        for name, entry in _configured(admin, topic, deadline).items()
        if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    }
    like = NewTopic(new, len(found), len(found[0].replicas), config=config | {_RETENTION: _WEEK})
    _done(admin.create_topics([like], operation_timeout=deadline.left).values(), new, deadline)
    while _partitions(admin, new, deadline) < len(found):  # not known everywhere at once
        if deadline.is_over:
            raise unavailable(f"the topic {new}", "it was not made in time")
        admin.poll(0.02)
    return new


def complete(admin: AdminClient, topic: str, deadline: Deadline) -> None:
    """Says that a topic is whole: from now on it is the log's."""
    _keep(admin, topic, FOR_EVER, deadline)


def retire(admin: AdminClient, log: str, topic: str, deadline: Deadline) -> None:
    """Empties the log's first topic and removes all later ones, except the one that it is in."""
    names = [_named(log, number) for number in _numbers(admin, log, deadline)]
    old = [name for name in names if name != topic]
    if old:
        gone = admin.delete_topics(old, operation_timeout=deadline.left)
        _done(gone.values(), ", ".join(old), deadline, KafkaError.UNKNOWN_TOPIC_OR_PART)
    if topic != log:
        _keep(admin, log, _NOTHING, deadline)
        everything = [
            TopicPartition(log, number, -1) for number in range(_partitions(admin, log, deadline))
        ]
        _done(admin.delete_records(everything).values(), log, deadline)


def _named(log: str, number: int) -> str:
    # Streams have no dots in their names, so no other log is named like this.
    return f"{log}.g{number}"


def _numbers(admin: AdminClient, log: str, deadline: Deadline) -> list[int]:
    """The numbers of the log's later topics, in order."""
    start = f"{log}.g"
    behind = [name.removeprefix(start) for name in admin.list_topics(timeout=deadline.left).topics
              if name.startswith(start)]  # fmt: skip
    return sorted(int(number) for number in behind if number.isdecimal())


def _partitions(admin: AdminClient, topic: str, deadline: Deadline) -> int:
    return len(admin.list_topics(topic, timeout=deadline.left).topics[topic].partitions)


def _retention(admin: AdminClient, topic: str, deadline: Deadline) -> str:
    return str(_configured(admin, topic, deadline)[_RETENTION].value)


def _configured(admin: AdminClient, topic: str, deadline: Deadline) -> dict[str, Any]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    asked = admin.describe_configs([resource], request_timeout=deadline.left)
    (found,) = _done(asked.values(), topic, deadline)
    return dict(found)


def _keep(admin: AdminClient, topic: str, milliseconds: str, deadline: Deadline) -> None:
    entry = ConfigEntry(_RETENTION, milliseconds, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    told = admin.incremental_alter_configs([resource], request_timeout=deadline.left)
    _done(told.values(), topic, deadline)


def _done(
    asked: Iterable[Future[Any]], topic: str, deadline: Deadline, unless: int | None = None
) -> list[Any]:
    """The answers; an error of the kind ``unless`` is none."""
    answers = []
    for each in asked:
        try:
            answers.append(each.result(deadline.left))
        except TimeoutError:
            raise unavailable(f"the topic {topic}", "no answer in time") from None
        except KafkaException as error:
            if error.args[0].code() != unless:
                raise
    return answers
