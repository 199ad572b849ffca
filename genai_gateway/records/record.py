"""The facts of one exchange, without any of its words."""

from __future__ import annotations

from dataclasses import dataclass

from genai_gateway.conversation import Json, Usage
from genai_gateway.exchange import Exchange

ANSWERED, REFUSED, LIMITED, FAILED, LEFT = "answered", "refused", "limited", "failed", "left"


@dataclass(frozen=True, slots=True)
class Record:
    """One exchange. ``outcome`` is answered, refused, limited, failed, or left (by the client);
    times are UTC microseconds. ``scanned`` is what the guardrails looked at, None if nothing did.
    """

    id: str
    at: int
    finished: int
    first_token: int
    surface: str
    project: str
    key: str
    user: str
    model: str
    served: str
    outcome: str
    error: str
    stream: bool
    attempts: int
    cache: str
    usage: Usage
    cost_nano_usd: int
    excess_nano_usd: int
    scanned: Json | None
    events: int = 0

    def data(self) -> Json:
        """As JSON, as the audit keeps it."""
        usage = {name: getattr(self.usage, name) for name in self.usage.__slots__}
        own = {name: getattr(self, name) for name in self.__slots__ if name != "usage"}
        return {**own, "usage": usage}


def record_of(exchange: Exchange, outcome: str, error: str, finished: int, events: int) -> Record:
    """The record of an exchange that is over."""
    caller, request, report = exchange.caller, exchange.request, exchange.report
    return Record(
        id=exchange.id,
        at=exchange.started,
        finished=finished,
        first_token=exchange.first_token,
        surface=exchange.surface,
        project=caller.project,
        key=caller.key,
        user=caller.user,
        model=exchange.route.name,
        served=exchange.served.name if exchange.served else "",
        outcome=outcome,
        error=error,
        stream=request.stream,
        attempts=exchange.attempts,
        cache=exchange.cache,
        usage=exchange.usage or Usage(),
        cost_nano_usd=exchange.cost_nano_usd,
        excess_nano_usd=exchange.excess_nano_usd,
        scanned=report.data() if report is not None else None,
        events=events,
    )
