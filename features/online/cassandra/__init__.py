"""The online store in Cassandra; nothing else of the room knows Cassandra."""

from features.online.cassandra.connection import CassandraOptions, Database
from features.online.cassandra.store import CassandraStore

__all__ = ["CassandraOptions", "CassandraStore", "Database"]
