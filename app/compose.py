"""Which implementation stands behind which port; nobody else chooses."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.access.keys import KeyFile
from app.control.catalog import Catalog
from app.control.definitions import library_of
from app.home import Home
from app.lifecycle.cluster import Cluster, running_cluster
from app.settings import (
    OnlineSettings,
    Settings,
    StreamSettings,
    checked_settings,
    load_settings,
)
from features.clock import Clock, SystemClock
from features.library import Library

if TYPE_CHECKING:
    from features.offline.lake import Lake
    from features.online.cassandra import Database
    from features.online.store import OnlineStore
    from features.stream.log import EventLog
    from training.artifacts import ArtifactStore
    from training.gallery import Gallery, SqliteGallery


@dataclass(frozen=True, slots=True)
class Platform:
    """One installation: its settings, its home directory, and everything opened from them."""

    settings: Settings
    clock: Clock = field(default_factory=SystemClock)

    @property
    def home(self) -> Home:
        """The layout of the home directory."""
        return Home(self.settings.home)

    def cluster(self) -> Cluster | None:
        """The cluster that is up for this home, if any."""
        return running_cluster(self.home.cluster)

    def lake(self) -> Lake:
        """The lake: Iceberg tables with a SQLite catalog."""
        from features.offline.iceberg import IcebergLake

        self.home.lake.mkdir(parents=True, exist_ok=True)
        return IcebergLake(self.home.lake)

    def online(self) -> OnlineStore:
        """The online store of the settings: LMDB files, Redis or Cassandra."""
        settings = self.settings.online
        if settings.store == "redis":
            return redis_store(settings)
        if settings.store == "cassandra":
            from features.online.cassandra import CassandraStore

            return CassandraStore(cassandra_database(settings), clock=self.clock)
        from features.online.lmdb import LmdbStore

        return LmdbStore(self.home.online)

    def event_log(self, stream: str, partitions: int) -> EventLog:
        """The event log of a stream, as the settings say; who can close it does so.

        Raises Conflict if there is one with another number of partitions.
        """
        settings = self.settings.stream
        if settings.log == "kafka":
            return kafka_log(settings, stream, partitions, self.clock)
        if settings.log == "redis":
            return redis_log(settings, stream, partitions, self.clock)
        from features.stream.embedded import EmbeddedLog

        return EmbeddedLog(self.home.log / stream, partitions, clock=self.clock)

    def artifacts(self) -> ArtifactStore:
        """The artifact store: files by content."""
        from training.artifacts import LocalArtifacts

        return LocalArtifacts(self.home.artifacts)

    def keys(self) -> KeyFile:
        """The API keys."""
        return KeyFile(self.home.keys, self.clock)

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        """The catalog to read from, beside whoever writes it."""
        with Catalog(self.home.catalog, self.clock, read_only=True) as catalog:
            yield catalog

    @contextmanager
    def gallery(self) -> Iterator[Gallery]:
        """Gallery to read from, beside whoever writes it; empty before the first version."""
        from training.gallery import MemoryGallery, SqliteGallery

        if not self.home.gallery.exists():
            yield MemoryGallery(self.clock)
            return
        with SqliteGallery(self.home.gallery, self.clock, read_only=True) as gallery:
            yield gallery

    def catalog_writer(self, who: str) -> Catalog:
        """The catalog for its one writer."""
        return Catalog(self.home.catalog, self.clock, who=who)

    def gallery_writer(self, who: str) -> SqliteGallery:
        """Gallery for its one writer."""
        from training.gallery import SqliteGallery

        self.home.gallery.parent.mkdir(parents=True, exist_ok=True)
        return SqliteGallery(self.home.gallery, self.clock, who=who)

    def library(self) -> Library:
        """Every applied definition; sources without a schema have that of their table."""
        with self.catalog() as catalog:
            library = library_of(stored.resource for stored in catalog.list())
        return self.with_table_schemas(library)

    def with_table_schemas(self, library: Library) -> Library:
        """The library with the schemas of those tables that are there."""
        if all(source.schema is not None for source in library.sources()):
            return library
        from features.offline.lake import with_table_schema

        lake = self.lake()
        tables = set(lake.tables())
        open_ones = [s for s in library.sources() if s.schema is None and s.table in tables]
        return library.with_schemas({s.name: with_table_schema(s, lake).columns for s in open_ones})

    def table_rows(self) -> dict[str, int]:
        """Rows of every lake table."""
        if not self.home.lake.exists():
            return {}
        lake = self.lake()
        return {name: lake.describe(name).rows for name in lake.tables()}


@functools.cache
def redis_store(settings: OnlineSettings) -> OnlineStore:
    """The online store in Redis; a process has one pool of connections."""
    from features.online.redis import RedisOptions, RedisStore, connect

    options = RedisOptions(settings.redis_url, settings.deadline_s, settings.redis_password_file)
    return RedisStore(connect(options), prefix=settings.redis_prefix)


@functools.cache
def cassandra_database(settings: OnlineSettings) -> Database:
    """The session with Cassandra; a process has one, which ends with it."""
    from features.online.cassandra import CassandraOptions, Database

    points = settings.cassandra_contact_points.split(",")
    return Database(
        CassandraOptions(
            contact_points=tuple(point.strip() for point in points),
            data_centre=settings.cassandra_data_centre,
            keyspace=settings.cassandra_keyspace,
            port=settings.cassandra_port,
            replication=settings.cassandra_replication,
            deadline_s=settings.deadline_s,
            user=settings.cassandra_user,
            password_file=settings.cassandra_password_file,
            ca_file=settings.cassandra_ca_file,
        )
    )


def kafka_log(settings: StreamSettings, stream: str, partitions: int, clock: Clock) -> EventLog:
    """A stream's event log as a topic."""
    from features.stream.kafka import KafkaLog

    return KafkaLog(
        settings.kafka_servers,
        f"{settings.log_prefix}{stream}",
        partitions,
        clock,
        timeout_s=settings.log_timeout_s,
        replication=settings.kafka_replication,
    )


def redis_log(settings: StreamSettings, stream: str, partitions: int, clock: Clock) -> EventLog:
    """A stream's event log in Redis."""
    from features.stream.redis import RedisLog

    secret = settings.redis_password_file
    return RedisLog(
        settings.redis_url,
        f"{settings.log_prefix}{stream}",
        partitions,
        clock,
        timeout_s=settings.log_timeout_s,
        replicas=settings.redis_replicas,
        must_fsync=settings.redis_must_fsync,
        password_file=Path(secret) if secret else None,
    )


def open_platform(config: Path | None = None) -> Platform:
    """The installation that this process works with.

    While a cluster is up, its settings are in force: they say where things really listen. So is the
    environment that its processes need, from here on: Ray reads it once, when it is imported.
    """
    settings = load_settings(config)
    cluster = running_cluster(Home(settings.home).cluster)
    if cluster is not None:
        os.environ.update(cluster.environment)
        settings = checked_settings({**cluster.settings, "home": cluster.home})
    return Platform(settings)


def platform_at(home: Path) -> Platform:
    """The installation at a home directory, for processes of its cluster."""
    cluster = running_cluster(Home(home).cluster)
    if cluster is None:
        return Platform(load_settings().model_copy(update={"home": home}))
    return Platform(checked_settings({**cluster.settings, "home": cluster.home}))
