"""Erasing one entity everywhere: every place in turn, then all of them once more, then a search."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from app.client import whoami
from app.compose import Platform
from app.erasure import places
from app.erasure.events import met_in_logs
from app.erasure.places import Ground, Place
from app.erasure.proof import key_hash, proof_of, write_proof
from app.erasure.search import SHORTEST, Needles, Searched, search
from app.erasure.survey import surveyed
from app.errors import BadInput, Conflict
from features.library import Library
from features.naming import did_you_mean
from features.sources import Entity
from features.subject import Subject
from training.gallery.lock import WriterLock

Advance = Callable[[str, int, int], None]
Data = dict[str, Any]
_OUTSIDE = (
    "copies that were made elsewhere (backups, exports, files that were ingested): not known here",
    "disk blocks of removed files: the file system's to reuse, they are not overwritten",
    "models: what was learned from the rows stays in their weights; packages hold sample rows of "
    "features, without keys",
    "features of other entities that counted the erased events: as they were, until their views "
    "are materialized again",
)


def subject_of(library: Library, name: str, given: Mapping[str, str]) -> Subject:
    """The entity with its key from text.

    Raises NotFound for an unknown entity, BadInput for parts that are missing, unknown or of
    another type than the entity declares.
    """
    entity = library.entity(name)
    for key in given:
        if key not in entity.keys:
            raise BadInput(
                f"the entity {name!r} has no key {key!r}", did_you_mean(key, entity.keys, "keys")
            )
    missing = [key for key in entity.keys if key not in given]
    if missing:
        raise BadInput(
            f"the key of {name!r} lacks {', '.join(missing)}",
            " ".join(f"--key {key}=…" for key in entity.keys),
        )
    return Subject.of(entity, _values(entity, given), library.services())


def erase(platform: Platform, library: Library, subject: Subject, advance: Advance) -> Data:
    """Removes everything about an entity and returns the proof, which is kept as well.

    ``complete`` is False in it if something was found that could not be cleaned. Raises Conflict
    while the platform is up or others write; after any failure the same call again goes on.
    """
    if platform.cluster() is not None:
        raise Conflict(
            f"the platform at {platform.home.root} is up: its processes hold entities in memory",
            "Bring it down first (tondo down), erase, then bring it up again.",
        )
    lock = WriterLock(platform.home.run / "up.lock", "tondo features erase")
    try:
        return _erased(platform, library, subject, advance)
    finally:
        lock.release()


def _erased(platform: Platform, library: Library, subject: Subject, advance: Advance) -> Data:
    folder = platform.home.erasures
    hashed = key_hash(folder, subject)
    known = proof_of(folder, hashed)
    is_done = known is not None and known["state"] == "done"
    begun = known if known is not None and not is_done else _begun(platform, subject, hashed)
    if not is_done:
        write_proof(folder, begun)
    first, again = (list(_cleaned(platform, library, subject, advance)) for _ in range(2))
    proof = begun | _found(first, again, _searched(platform, subject, advance))
    proof["remains"] = places.remains(platform, library)
    is_nothing = not proof["rows"] and proof["complete"]
    if known is not None and is_done and is_nothing:
        return {**known, "nothingToDo": True}
    write_proof(folder, proof)
    return {**proof, "nothingToDo": is_nothing}


def _cleaned(
    platform: Platform, library: Library, subject: Subject, advance: Advance
) -> Iterator[Place]:
    """All places; tables and logs last, because what was derived from them is found through them.

    So a run that was cut off has lost nothing of what the next one needs to know.
    """
    steps: list[tuple[str, Callable[[Ground], Iterator[Place]]]] = [
        ("prediction spool", places.spool),
        ("training sets", places.training_sets),
        ("training runs", places.runs),
        ("online store", places.online),
        ("checkpoints", places.checkpoints),
        ("lake tables", places.tables),
        ("event logs", places.logs),
    ]
    advance("looking", 0, len(steps) + 1)
    ground = _ground(platform, library, subject)
    for number, (title, clean) in enumerate(steps, 1):
        advance(title, number, len(steps) + 1)
        yield from clean(ground)


def _ground(platform: Platform, library: Library, subject: Subject) -> Ground:
    met = tuple(met_in_logs(platform, library, subject))
    found = surveyed(platform, library, subject, met)
    keys = {entity: frozenset(some) for entity, some in found.keys.items()}
    return Ground(platform, library, subject, met, keys, frozenset(found.changed))


def _searched(platform: Platform, subject: Subject, advance: Advance) -> Searched | None:
    wanted = Needles.of(subject.values, subject.key)
    if not wanted:
        return None
    return search(platform.home.root, wanted, lambda done, of: advance("search", done, of))


def _begun(platform: Platform, subject: Subject, hashed: str) -> Data:
    now = platform.clock.now()
    moment = datetime.fromtimestamp(now / 1e6, UTC)
    return {
        "erasure": f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        "entity": subject.entity.name,
        "key": hashed,
        "by": whoami(),
        "at": moment.isoformat(),
        "state": "begun",
    }


def _found(first: list[Place], again: list[Place], searched: Searched | None) -> Data:
    left = [f"{place.kind} {place.name}: found again" for place in again if place.rows]
    if searched is not None:
        left += [f"{name}: still has the key in it" for name in searched.found]
        left += [f"{name}, so it was not searched" for name in searched.unreadable]
    return {
        "state": "incomplete" if left else "done",
        "complete": not left,
        "rows": sum(place.rows for place in first),
        "places": [asdict(place) for place in first],
        "lookedAgain": {"places": len(again), "rows": sum(place.rows for place in again)},
        "searched": _search_data(searched),
        "left": left,
        "outside": list(_OUTSIDE),
    }


def _search_data(searched: Searched | None) -> Data:
    if searched is None:
        why = f"no part of the key is a text of {SHORTEST} bytes or more: met by chance anywhere"
        return {"done": False, "why": why}
    return {"done": True, "files": searched.files, "bytes": searched.bytes,
            "found": len(searched.found)}  # fmt: skip


def _values(entity: Entity, given: Mapping[str, str]) -> list[Any]:
    from app.surface.session import typed_value

    return [typed_value(n, given[n], t) for n, t in zip(entity.keys, entity.types, strict=True)]
