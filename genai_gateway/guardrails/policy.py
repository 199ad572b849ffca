"""Policies as data: which steps look at what, in which order, and what they do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genai_gateway.guardrails.personal import KINDS
from genai_gateway.reading import Fields

Action = Literal["replace", "refuse", "flag"]
Kind = Literal["pii", "secrets", "injection", "phrases"]
_ACTIONS: dict[str, tuple[Action, ...]] = {
    "pii": ("replace", "refuse", "flag"),
    "secrets": ("refuse", "replace", "flag"),
    "injection": ("refuse", "flag"),
    "phrases": ("refuse", "flag"),
}
_SIDES: dict[str, tuple[str, ...]] = {
    "pii": ("input",),
    "secrets": ("input", "output"),
    "injection": ("input",),
    "phrases": ("input", "output"),
}
SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``on`` says whether it looks at what goes in, at what comes out, or at both.

    ``kinds`` are those of personal data, ``phrases`` what is blocked, ``threshold`` the score (0 to
    1) from which a text counts as an injection.
    """

    kind: Kind
    action: Action
    on: tuple[str, ...]
    kinds: tuple[str, ...] = KINDS
    phrases: tuple[str, ...] = ()
    threshold: float = 0.5

    @property
    def acts(self) -> bool:
        """Whether the step changes or refuses anything."""
        return self.action != "flag"


@dataclass(frozen=True, slots=True)
class Policy:
    """A versioned stack of steps.

    ``unread`` says what happens to what has no words the gateway can read (pictures, token
    numbers, parts of an unknown type): refused, or passed and noted in the audit.
    ``check_schema`` holds answers to the JSON schema that their request asked for.
    """

    name: str
    version: int
    steps: tuple[Step, ...]
    unread: Literal["refuse", "pass"] = "refuse"
    check_schema: bool = False

    @property
    def label(self) -> str:
        """Name and version, as the audit and the metrics say it."""
        return f"{self.name}@{self.version}"

    def on(self, side: str) -> tuple[Step, ...]:
        """The steps that look at one side, in their order."""
        return tuple(step for step in self.steps if side in step.on)


def read_policy(name: str, fields: Fields) -> Policy:
    """A policy from configuration. Raises BadRequest, naming the place."""
    shadow = bool(fields.flag("shadow"))
    place = fields.place("steps")
    steps = [Fields(data, f"{place}[{n}]") for n, data in enumerate(fields.items("steps"))]
    unread = fields.text("unread", "refuse")
    if unread not in ("refuse", "pass"):
        raise fields.wrong("unread", "refuse or pass", unread)
    policy = Policy(
        name=name,
        version=fields.integer("version", least=1) or 1,
        steps=tuple(_step(step, shadow) for step in steps),
        unread="pass" if shadow or unread == "pass" else "refuse",
        check_schema=bool(fields.flag("check_schema")),
    )
    for rest in fields.rest():
        raise fields.wrong(rest, "left out, for it is not a setting of policies", "there")
    return policy


def _step(fields: Fields, shadow: bool) -> Step:
    kind = fields.text("step")
    if kind not in _ACTIONS:
        raise fields.wrong("step", ", ".join(_ACTIONS), kind)
    action = fields.text("action", _ACTIONS[kind][0])
    if action not in _ACTIONS[kind]:
        raise fields.wrong("action", ", ".join(_ACTIONS[kind]), action)
    threshold = fields.number("threshold", most=1.0)
    step = Step(
        kind=kind,  # type: ignore[arg-type]
        action="flag" if shadow or fields.flag(SHADOW) else action,
        on=_chosen(fields, "on", ("input", "output"), _SIDES[kind]),
        kinds=_chosen(fields, "kinds", KINDS, KINDS),
        phrases=tuple(fields.items("phrases", [])),
        threshold=0.5 if threshold is None else threshold,
    )
    if kind == "phrases" and not all(isinstance(p, str) and p.strip() for p in step.phrases):
        raise fields.wrong("phrases", "a list of phrases", list(step.phrases))
    if kind == "phrases" and not step.phrases:
        raise fields.missing("phrases")
    for rest in fields.rest():
        raise fields.wrong(rest, "left out, for it is not a setting of steps", "there")
    return step


def _chosen(
    fields: Fields, name: str, known: tuple[str, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    chosen = fields.items(name, list(default))
    if not chosen or not set(chosen) <= set(known):
        raise fields.wrong(name, f"some of {', '.join(known)}", chosen)
    return tuple(chosen)
