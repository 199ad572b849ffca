"""Gallery's tables. Storage itself refuses to change what is immutable."""

from __future__ import annotations

_TABLES = """
CREATE TABLE IF NOT EXISTS versions (
    family TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, run TEXT NOT NULL,
    created_at INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (family, version));
CREATE UNIQUE INDEX IF NOT EXISTS versions_by_run ON versions (family, run) WHERE run != '';
CREATE TABLE IF NOT EXISTS metrics (
    family TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL, split TEXT NOT NULL,
    segment TEXT NOT NULL, value REAL, PRIMARY KEY (family, version, name, split, segment));
CREATE TABLE IF NOT EXISTS lineage (
    family TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    value TEXT NOT NULL, PRIMARY KEY (family, version, kind, name));
CREATE INDEX IF NOT EXISTS lineage_by_name ON lineage (kind, name, value);
CREATE TABLE IF NOT EXISTS aliases (
    family TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (family, alias));
CREATE TABLE IF NOT EXISTS alias_moves (
    position INTEGER PRIMARY KEY, family TEXT NOT NULL, alias TEXT NOT NULL, target INTEGER,
    previous INTEGER, at INTEGER NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS alias_moves_by_family ON alias_moves (family, alias, at);
CREATE TABLE IF NOT EXISTS audit (
    position INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
    subject TEXT NOT NULL, data BLOB NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL);
"""

_IMMUTABLE = ("versions", "metrics", "lineage", "alias_moves", "audit")


def _guard(table: str, change: str) -> str:
    return (
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{change.lower()} BEFORE {change} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;"
    )


SCHEMA = _TABLES + "\n".join(
    _guard(table, change) for table in _IMMUTABLE for change in ("UPDATE", "DELETE")
)
