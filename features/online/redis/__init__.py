"""The online store in Redis; nothing else of the room knows Redis."""

from features.online.redis.connection import RedisOptions, connect
from features.online.redis.store import RedisStore

__all__ = ["RedisOptions", "RedisStore", "connect"]
