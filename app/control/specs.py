"""What the spec of each kind of resource may hold; everything else is refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.errors import BadInput
from features.durations import days, hours, milliseconds, minutes, seconds
from features.naming import did_you_mean

_UNITS = {"ms": milliseconds, "s": seconds, "min": minutes, "h": hours, "d": days}
_VERSION = re.compile(r"[1-9][0-9]{0,17}|[a-z][a-z0-9_-]{0,199}")
_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h|d)")


def read_duration(value: Any) -> Any:
    """``90s``, ``15min``, ``6h``, ``7d`` in µs; a number is taken as µs."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None and isinstance(value, str):
        raise ValueError(f"{value!r} is not a length of time: write 90s, 15min, 6h or 7d")
    return value if found is None else _UNITS[found[2]](int(found[1]))


def read_version(value: Any) -> Any:
    """A version's number from 1 on, or an alias with or without its ``@``."""
    text = str(value).removeprefix("@")
    if isinstance(value, bool) or not isinstance(value, int | str) or not _VERSION.fullmatch(text):
        raise ValueError(f"{value!r} is neither a version's number nor an alias such as @champion")
    return value


Duration = Annotated[int, BeforeValidator(read_duration), Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Spec(BaseModel):
    """Base: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Slo(Spec):
    """What a project promises those who use it."""

    availability: Annotated[float, Field(gt=0, le=1)] = 0.999
    p99_ms: Annotated[float, Field(gt=0)] = 50.0
    freshness: Duration = minutes(5)


class ProjectSpec(Spec):
    """A project: who owns it, how much it matters, what it promises."""

    owner: str = ""
    tier: Annotated[int, Field(ge=1, le=4)] = 3
    slo: Slo = Slo()
    retention: Duration = days(365)


class ModelFamilySpec(Spec):
    """A problem that versions of a model answer; made from ``models/*/model.py``."""

    service: Name
    metric: str = ""
    owner: str = ""


class DeploymentSpec(Spec):
    """Which version of a family answers under which public name.

    ``version`` is a number or an alias; an alias is followed when it moves.
    """

    family: Name
    version: Annotated[int | str, BeforeValidator(read_version)] = "champion"
    model: str = ""

    @property
    def reference(self) -> int | str:
        """The number, or the alias without its ``@``."""
        text = str(self.version).removeprefix("@")
        return int(text) if text.isdecimal() else text

    @property
    def served_as(self) -> str:
        """The name in ``/v1/models/{model}``."""
        return self.model or self.family


class MonitorSpec(Spec):
    """What is compared with the training reference, and when a difference counts."""

    family: Name
    columns: tuple[str, ...] = ("*",)
    window: Duration = days(30)
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    min_effect: Annotated[float, Field(ge=0)] = 0.1
    min_rows: Annotated[int, Field(ge=1)] = 100


class RuleSpec(Spec):
    """When a monitor reports drift, do this; never more often than the policy allows."""

    given: Name
    when: Literal["drift"] = "drift"
    then: Literal["alert", "retrain"] = "alert"
    cool_down: Duration = days(1)
    budget: Annotated[int, Field(ge=0)] = 4
    budget_window: Duration = days(30)
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    dry_run: bool = False


class RunSpec(Spec):
    """One run of a model: what was asked for."""

    model: Name
    settings: Mapping[str, Any] = Field(default_factory=dict)
    job: str = ""
    why: str = ""


SPECS: Mapping[str, type[Spec]] = {
    "Deployment": DeploymentSpec,
    "ModelFamily": ModelFamilySpec,
    "Monitor": MonitorSpec,
    "Project": ProjectSpec,
    "Rule": RuleSpec,
    "Run": RunSpec,
}


def checked_spec(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with its defaults, as JSON-able data; BadInput names the wrong field."""
    try:
        return SPECS[kind].model_validate(dict(spec)).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = _SAID.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise BadInput(f"{kind}/{name}: spec.{place}: {said}", _hint(kind, first)) from None


_SAID = {"extra_forbidden": "there is no such field", "missing": "it is missing"}


def _hint(kind: str, error: Mapping[str, Any]) -> str:
    *way, last = (str(part) for part in error["loc"])
    known, where = SPECS[kind].model_fields, kind
    for part in way:
        inner = known[part].annotation if part in known else None
        if isinstance(inner, type) and issubclass(inner, Spec):
            known, where = inner.model_fields, f"{kind} {part}"
    if error["type"] == "extra_forbidden":
        return did_you_mean(last, known, "fields")
    return f"Known fields of {where}: {', '.join(sorted(known))}."
