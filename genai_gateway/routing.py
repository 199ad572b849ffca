"""A public model name, and who may answer for it, in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from genai_gateway.clock import SECOND, Clock
from genai_gateway.conversation import ChatRequest, Media, Tool
from genai_gateway.errors import CannotTranslate
from genai_gateway.tokens import estimated_tokens

_FAILURES_TO_COOL = 3
_COOL_S = 5.0
_LONGEST_COOL_S = 120.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an upstream may take, in seconds."""

    first_token_s: float = 10.0
    between_tokens_s: float = 10.0
    total_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a failed call is repeated.

    ``rounds`` goes through all targets, ``backoff_s`` before the second round and twice as long
    before each next one; an upstream's own wish counts if it is longer, and if it is longer than
    ``longest_wait_s`` the client is told it instead.
    """

    rounds: int = 3
    backoff_s: float = 0.25
    longest_wait_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """One model of one provider. ``lacks`` names what it cannot take (images, tools, …)."""

    provider: str
    model: str
    weight: float = 1.0
    priority: int = 0
    context_tokens: int = 0
    lacks: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Provider and model, as headers and metrics say it."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Route:
    """What stands behind a public model name."""

    name: str
    targets: tuple[Target, ...]
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    hedge_after_s: float = 0.0
    policy: str = ""
    cache_s: int = 0
    max_output_tokens: int = 4096
    allow_unpriced: bool = False


@dataclass(slots=True)
class _State:
    failures: int = 0
    cooled: int = 0
    until: int = 0


@dataclass(slots=True)
class Health:
    """Which targets failed lately. A cool-down once given is never made shorter by a new one."""

    clock: Clock
    _states: dict[str, _State] = field(default_factory=dict)

    def good(self, target: Target) -> None:
        """The target answered: its failures are forgotten."""
        self._states.pop(target.name, None)

    def bad(self, target: Target, wait_s: float = 0.0) -> None:
        """The target failed; three in a row, or its own wish, let it rest."""
        state = self._states.setdefault(target.name, _State())
        state.failures += 1
        rest_s = wait_s
        if state.failures >= _FAILURES_TO_COOL:
            rest_s = max(rest_s, min(_COOL_S * 2.0**state.cooled, _LONGEST_COOL_S))
            state.cooled += 1
            state.failures = 0
        if rest_s > 0:
            state.until = max(state.until, self.clock.now() + round(rest_s * SECOND))

    def rests_until(self, target: Target) -> int:
        """When the target may be asked again; 0 if now."""
        state = self._states.get(target.name)
        return state.until if state and state.until > self.clock.now() else 0


def order(targets: Sequence[Target], health: Health, chance: random.Random) -> list[Target]:
    """The targets in the order to be tried: by priority, drawn by weight; resting ones last."""
    drawn: list[Target] = []
    for _, group in groupby(sorted(targets, key=lambda t: t.priority), lambda t: t.priority):
        drawn += sorted(group, key=lambda t: _lot(t, chance))
    return sorted(drawn, key=health.rests_until)


def _lot(target: Target, chance: random.Random) -> float:
    """Sorting by this draws without replacement, in proportion to weight (Efraimidis, Spirakis)."""
    return chance.expovariate(target.weight) if target.weight > 0 else float("inf")


def capable(route: Route, request: ChatRequest) -> tuple[Target, ...]:
    """The targets that can take a request. Raises CannotTranslate if there are none."""
    if not any(target.lacks or target.context_tokens for target in route.targets):
        return route.targets
    needs, tokens = needs_of(request), estimated_tokens(request)
    fit = tuple(t for t in route.targets if not (t.lacks & needs) and _fits(t, tokens))
    if fit:
        return fit
    lacking = frozenset.union(*(target.lacks for target in route.targets)) & needs
    if lacking:
        raise CannotTranslate(
            f"no target of {route.name} can take {', '.join(sorted(lacking))}",
            "Leave it out, or ask another model.",
        )
    raise CannotTranslate(
        f"the request has about {tokens:,} tokens, more than any target of {route.name} reads",
        "Shorten the conversation.",
        "messages",
    )


def needs_of(request: ChatRequest) -> frozenset[str]:
    """What a target must be able to take: images, audio, documents, tools, schema, choices."""
    needs = {f"{part.kind}s" for part in request.parts() if isinstance(part, Media)}
    if any(isinstance(tool, Tool) for tool in request.tools):
        needs.add("tools")
    if request.output is not None and request.output.kind == "schema":
        needs.add("schema")
    if request.choices > 1:
        needs.add("choices")
    return frozenset(needs)


def _fits(target: Target, tokens: int) -> bool:
    return not target.context_tokens or tokens <= target.context_tokens
