"""API keys: shown once when they are made, kept as SHA-256 digests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from app.errors import BadInput, Conflict, DamagedData, NotFound
from features.clock import Clock
from features.naming import did_you_mean

OPERATOR = "operator"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_PREFIX = "tondo_"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: its name, the digest of its text, and when it was made (UTC µs)."""

    name: str
    sha256: str
    created_at: int


class KeyFile:
    """The keys of one installation; replicas read the same file and follow it within a second."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def list(self) -> tuple[Key, ...]:
        """Every key in force, oldest first; raises DamagedData if the file cannot be read."""
        try:
            return tuple(Key(**entry) for entry in json.loads(self._path.read_text()))
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError) as error:
            raise DamagedData(
                f"{self._path} is not a list of keys: {error}",
                "Restore it from a backup, or remove it and make the keys again.",
            ) from None

    def create(self, name: str) -> str:
        """Makes a key and returns its text, which is kept nowhere. Raises Conflict for a name
        that is taken.
        """
        _check(name)
        text = _PREFIX + secrets.token_urlsafe(32)
        with self._writing():
            self._write((*self._others(name), Key(name, _digest(text), self._clock.now())))
        return text

    def revoke(self, name: str) -> None:
        """Removes a key; replicas refuse it within a second. Raises NotFound."""
        with self._writing():
            keys = self.list()
            left = tuple(key for key in keys if key.name != name)
            if len(left) == len(keys):
                hint = did_you_mean(name, [key.name for key in keys], "keys")
                raise NotFound(f"there is no key {name!r}", hint)
            self._write(left)

    def knows(self, text: str) -> bool:
        """Whether the text is a key in force."""
        return _digest(text) in {key.sha256 for key in self.list()}

    def _others(self, name: str) -> tuple[Key, ...]:
        keys = self.list()
        if any(key.name == name for key in keys):
            raise Conflict(
                f"there is already a key {name!r}", f"Revoke it first: tondo keys revoke {name}"
            )
        return keys

    @contextmanager
    def _writing(self) -> Iterator[None]:
        _private_folder(self._path.parent)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, keys: tuple[Key, ...]) -> None:
        write_private(self._path, json.dumps([asdict(key) for key in keys], indent=1))


def ensure_operator_key(keys: KeyFile, path: Path) -> bool:
    """Makes the operator's key in ``path`` (mode 0600), unless it is there and valid."""
    if path.exists() and keys.knows(path.read_text().strip()):
        return False
    with suppress(NotFound):
        keys.revoke(OPERATOR)
    write_private(path, keys.create(OPERATOR))
    return True


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    _private_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot name a key", "Use lower case letters, digits, _ . and -.")


def _private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
