"""The tables of the online store in Cassandra."""

from __future__ import annotations

import re
from typing import Any

from features.errors import BadInput

_SECONDS = 60.0

TABLES = (
    # All that is known of an entity is one partition. A part names a whole tail or a head.
    """CREATE TABLE IF NOT EXISTS {keyspace}.cells (
        entity blob, feature_view text, version bigint, part text, cell blob,
        PRIMARY KEY (entity, feature_view, version, part))""",
    # Versions of a view with their parts; changed by compare-and-set on its number.
    """CREATE TABLE IF NOT EXISTS {keyspace}.ledgers (
        feature_view text PRIMARY KEY, number bigint, ledger blob)""",
    # How far each head has come.
    """CREATE TABLE IF NOT EXISTS {keyspace}.positions (
        part text PRIMARY KEY, position blob)""",
    # Which entities a part has cells of, written before the cells: what a removal goes by.
    """CREATE TABLE IF NOT EXISTS {keyspace}.manifests (
        part text, bucket int, chunk uuid, entities list<blob>,
        PRIMARY KEY ((part, bucket), chunk))""",
)
_NAMES = ("cells", "ledgers", "positions", "manifests")


def checked_keyspace(name: str) -> str:
    """A keyspace's name; BadInput if it is none, for it becomes a part of statements."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", name):
        raise BadInput(
            f"{name!r} is no name of a keyspace.", "Small letters, digits and underscores."
        )
    return name


def create_schema(session: Any, keyspace: str, data_centre: str, replication: int) -> None:
    """Makes the keyspace and its tables if they are not there."""
    known = session.cluster.metadata.keyspaces.get(keyspace)
    if known is None:
        place = data_centre.replace("'", "''")
        session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
            f"{{'class': 'NetworkTopologyStrategy', '{place}': {replication:d}}}",
            timeout=_SECONDS,
        )
    if known is None or not known.tables.keys() >= set(_NAMES):
        for table in TABLES:
            session.execute(table.format(keyspace=keyspace), timeout=_SECONDS)
