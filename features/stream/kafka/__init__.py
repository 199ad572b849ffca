"""The event log as a Kafka topic."""

from features.stream.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
