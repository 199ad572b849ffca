"""The topic of a log: made if it is not there, refused if it would not keep what it is given."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from features.errors import Conflict
from features.stream.kafka import generations
from features.stream.kafka.connection import Connection, Deadline, answering, unavailable
from features.stream.partitions import other_count

_BATCH_BYTES = 1 << 20
"""What a batch adds to its rows, and more."""
_KEEPS = {"cleanup.policy": "delete", "retention.ms": generations.FOR_EVER}


def open_topic(
    connection: Connection, log: str, partitions: int, replication: int, row_bytes: int
) -> str:
    """The name of a log's topic, which is made if it is not there.

    Raises Conflict if it has another number of partitions or may lose all of its events.
    """
    deadline = connection.deadline()
    with answering(f"the topic {log}"):
        admin = AdminClient(connection.settings())
        topic = generations.current(admin, log, deadline)
        if not _count(admin, topic, deadline):
            config = _configured(replication, row_bytes)
            _create(admin, NewTopic(topic, partitions, replication, config=config), deadline)
        found = _count(admin, topic, deadline)
        while not found and not deadline.is_over:  # a new topic is not known everywhere at once
            admin.poll(0.02)
            found = _count(admin, topic, deadline)
        if not found:
            raise unavailable(f"the topic {topic}", "it was not made in time")
        if found != partitions:
            raise other_count(topic, found, partitions)
        _check_kept(admin, topic, deadline)
        return topic


def _count(admin: AdminClient, topic: str, deadline: Deadline) -> int:
    """How many partitions there are; 0 if there is no such topic."""
    found = admin.list_topics(topic, timeout=deadline.left).topics[topic]
    if found.error is not None and found.error.code() not in _NO_TOPIC:
        raise KafkaException(found.error)
    return len(found.partitions)


_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE)


def _configured(replication: int, row_bytes: int) -> dict[str, str]:
    """What a topic with so many copies is told."""
    config = {
        **_KEEPS,
        "max.message.bytes": str(row_bytes + _BATCH_BYTES),
        "min.insync.replicas": str(max(replication - 1, 1)),
        "unclean.leader.election.enable": "false",
    }
    if replication == 1:
        config["flush.messages"] = "1"  # no other broker has it, so the disk must
    return config


def _create(admin: AdminClient, new: NewTopic, deadline: Deadline) -> None:
    (made,) = admin.create_topics([new], operation_timeout=deadline.left).values()
    try:
        made.result(deadline.left)
    except TimeoutError:
        raise unavailable(f"the topic {new.topic}", "it was not made in time") from None
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _check_kept(admin: AdminClient, topic: str, deadline: Deadline) -> None:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    (asked,) = admin.describe_configs([resource], request_timeout=deadline.left).values()
    try:
        found = asked.result(deadline.left)
    except TimeoutError:
        raise unavailable(f"the topic {topic}", "nobody says how it is configured") from None
    wrong = [f"{name}={found[name].value}" for name, v in _KEEPS.items() if found[name].value != v]
    if wrong:
        raise Conflict(
            f"the topic {topic} has {', '.join(wrong)}: it may lose the count of its events",
            "Set cleanup.policy=delete and retention.ms=-1; retention.bytes takes the oldest away.",
        )
