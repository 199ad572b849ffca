"""What a Redis has on its disk, once it no longer has it in memory: files written anew.

A deletion takes a key out of memory; the file of commands (AOF) and the snapshot (RDB) keep it
until Redis writes them again. So whoever must forget asks for that, and waits.
"""

from __future__ import annotations

import threading
from typing import Any

import redis

from features.errors import Unavailable

_PAUSE_S = 0.02
_HINT = "Is its disk full? Are BGREWRITEAOF, BGSAVE and INFO allowed to this user?"


def rewrite_files(client: redis.Redis) -> None:
    """Returns once the files of Redis hold what is in its memory now, and nothing older.

    That takes as long as Redis needs to write all of its memory. Raises Unavailable if Redis fails
    to, and the errors of redis-py.
    """
    if _info(client)["aof_enabled"]:
        _written(client, "aof_rewrite", "aof_last_bgrewrite_status", client.bgrewriteaof)
    if client.config_get("save").get("save"):
        _written(client, "rdb_bgsave", "rdb_last_bgsave_status", client.bgsave)


def _written(client: redis.Redis, job: str, status: str, start: Any) -> None:
    _wait(client, job)  # one that began earlier does not count
    start()
    _wait(client, job)
    found = _info(client)[status]
    if found != "ok":
        raise Unavailable(f"Redis could not write its files anew: {status} is {found}.", _HINT)


def _wait(client: redis.Redis, job: str) -> None:
    """Waits until a job neither runs nor is about to."""
    pause = threading.Event()
    while True:
        found = _info(client)
        if not (found[f"{job}_in_progress"] or found.get(f"{job}_scheduled")):
            return
        pause.wait(_PAUSE_S)


def _info(client: redis.Redis) -> dict[str, Any]:
    found: dict[str, Any] = client.info("persistence")
    return found
