"""How people name a version: ``FAMILY``, ``FAMILY:VERSION``, ``FAMILY@ALIAS``."""

from __future__ import annotations

from features.errors import BadInput


def read_reference(text: str) -> tuple[str, int | str | None]:
    """The family, and the number or alias if one is named. Raises BadInput for anything else."""
    family, at, alias = text.partition("@")
    if at and family and alias:
        return family, alias
    family, colon, number = text.partition(":")
    if not family or at or (colon and not number.isdecimal()):
        raise BadInput(
            f"{text!r} does not name a model version",
            "Write FAMILY, FAMILY:VERSION or FAMILY@ALIAS, e.g. flights.arrival_delay@champion.",
        )
    return family, int(number) if colon else None
