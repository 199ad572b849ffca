"""The online store in LMDB files; nothing else of the room knows LMDB."""

from features.online.lmdb.store import LmdbStore

__all__ = ["LmdbStore"]
