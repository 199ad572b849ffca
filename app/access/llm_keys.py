"""Keys of the GenAI Gateway: who, for which project, for what, within which limits."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.access.keys import write_private
from app.errors import BadInput, Conflict, NotFound
from features.naming import did_you_mean
from genai_gateway.errors import ConfigurationError
from genai_gateway.keys import caller_of, digest

_PREFIX = "tondo_"


class LlmKeyFile:
    """The file that the gateway's replicas read; a change counts within a second."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[dict[str, Any]]:
        """Every key in force, oldest first, without its text."""
        try:
            entries: list[dict[str, Any]] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return []
        return entries

    def create(self, name: str, **given: Any) -> str:
        """Makes a key and returns its text, which is kept nowhere. Raises BadInput, Conflict."""
        text = _PREFIX + secrets.token_urlsafe(32)
        entry = {"name": name, "sha256": digest(text), **given}
        try:
            caller_of(entry)
        except (ConfigurationError, TypeError) as error:
            raise BadInput(f"the key cannot be made: {error}") from None
        with self._writing():
            entries = self.entries()
            if any(known["name"] == name for known in entries):
                raise Conflict(f"there is already a key {name!r}", "Revoke it first.")
            self._write([*entries, entry])
        return text

    def revoke(self, name: str) -> None:
        """Takes a key out of force. Raises NotFound."""
        with self._writing():
            entries = self.entries()
            left = [entry for entry in entries if entry["name"] != name]
            if len(left) == len(entries):
                hint = did_you_mean(name, [entry["name"] for entry in entries], "keys")
                raise NotFound(f"there is no key {name!r}", hint)
            self._write(left)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, entries: list[dict[str, Any]]) -> None:
        write_private(self._path, json.dumps(entries, indent=1))
