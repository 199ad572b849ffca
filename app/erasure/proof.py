"""What an erasure leaves behind: a proof without the key, only a salted hash of it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from app.access.keys import write_private
from features.subject import Subject

Data = dict[str, Any]
_SALT_BYTES = 32


def key_hash(folder: Path, subject: Subject) -> str:
    """A hash of the entity and its key that says nothing without the installation's own salt."""
    path = folder / "salt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_private(path, secrets.token_hex(_SALT_BYTES))
    salt, said = bytes.fromhex(path.read_text()), subject.entity.name.encode() + subject.key
    return f"scrypt:{hashlib.scrypt(said, salt=salt, n=2**14, r=8, p=1, dklen=32).hex()}"


def proofs(folder: Path) -> Iterator[Data]:
    """All proofs, oldest first."""
    yield from (orjson.loads(path.read_bytes()) for path in sorted(folder.glob("*.json")))


def proof_of(folder: Path, hashed: str) -> Data | None:
    """The newest proof about this key, finished or not."""
    found = [proof for proof in proofs(folder) if proof["key"] == hashed]
    return found[-1] if found else None


def write_proof(folder: Path, proof: Mapping[str, Any]) -> Path:
    """Keeps a proof, readable by the owner only; a later one of the same id replaces it."""
    path = folder / f"{proof['erasure']}.json"
    write_private(path, orjson.dumps(proof, option=orjson.OPT_INDENT_2).decode())
    return path
