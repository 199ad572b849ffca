"""The event log as Redis Streams."""

from features.stream.redis.log import RedisLog

__all__ = ["RedisLog"]
