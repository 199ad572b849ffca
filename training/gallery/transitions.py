"""What Gallery allows, the same in every store."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from features.errors import Conflict, NotFound
from training.gallery.data import to_data
from training.gallery.model_version import AliasMove, ModelVersion


def same_creation(existing: ModelVersion, draft: ModelVersion) -> ModelVersion:
    """The version a run already made, if it made this package; raises Conflict otherwise."""
    if existing.digest == draft.digest:
        return existing
    raise Conflict(
        f"run {draft.lineage.run_id!r} already made {existing.name} from another package",
        "A run makes one version: start a new run.",
    )


def check_move(family: str, alias: str, current: int | None, expect: int | None) -> None:
    """Raises Conflict unless the alias names what the caller believes."""
    if current != expect:
        raise Conflict(
            f"{alias} of {family} is {_shown(current)}, not {_shown(expect)}",
            "Somebody moved it: look again and decide anew.",
        )


def _shown(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


def unknown_version(family: str, reference: int | str, versions: int) -> NotFound:
    """The error for a number or alias that the family does not have."""
    what = f"alias {reference!r}" if isinstance(reference, str) else f"version {reference}"
    hint = f"It has {versions} version(s), numbered from 1." if versions else ""
    return NotFound(f"{family} has no {what}", hint)


def unknown_family(family: str, families: Iterable[str]) -> NotFound:
    """The error for a family without versions, with the nearest names."""
    known = sorted(families)
    near = difflib.get_close_matches(family, known, 3) or known[:3]
    hint = f"Did you mean {', '.join(near)}?" if near else "Train a model first: tondo train MODEL."
    return NotFound(f"there is no model family {family!r} in Gallery", hint)


def content_of(version: ModelVersion) -> bytes:
    """The one JSON text of a version."""
    return orjson.dumps(to_data(version), option=orjson.OPT_SORT_KEYS)


def creation_data(version: ModelVersion) -> Mapping[str, Any]:
    """What the audit keeps of a creation: enough to notice any later change."""
    content = hashlib.sha256(content_of(version)).hexdigest()
    return {"digest": version.digest, "content": content, "run": version.lineage.run_id}


def move_data(move: AliasMove) -> Mapping[str, Any]:
    """What the audit keeps of an alias move."""
    return {"alias": move.alias, "to": move.to, "from": move.previous, "reason": move.reason}
