"""Names: what they may look like, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from features.errors import DefinitionError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_TABLE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def did_you_mean(name: str, known: Iterable[str], kind: str) -> str:
    """A hint: the nearest known names, or all of them when none is near."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return f"Did you mean {', '.join(near)}?"
    return f"Known {kind}: {', '.join(names[:12]) or 'none'}."


def checked_name(kind: str, name: Any) -> str:
    """The name, if it can be part of a column's name and of a path; else DefinitionError.

    Two underscores in a row are refused because ``view__feature`` names a feature's column.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise DefinitionError(
        f"{name!r} cannot name a {kind}",
        "Use letters, digits and single underscores between them, beginning with a letter.",
    )


def checked_table(name: Any) -> str:
    """The name, if it can name a lake table; else DefinitionError."""
    if isinstance(name, str) and _TABLE.fullmatch(name):
        return name
    raise DefinitionError(f"{name!r} cannot name a lake table", "Write for example lake.landings.")


def checked_column(place: str, name: Any) -> str:
    """The name, if data may have a column of it; else DefinitionError.

    Names that begin with two underscores belong to the platform's hidden columns.
    """
    if isinstance(name, str) and name and not name.startswith("__"):
        return name
    raise DefinitionError(
        f"{place}: {name!r} cannot name a column", "Use a name that does not begin with '__'."
    )
