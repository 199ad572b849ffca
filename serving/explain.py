"""Where the values of an answer came from, feature by feature."""

from __future__ import annotations

from features.online import Served
from serving.plan import RequestShape, written_time


def provenance(plan: RequestShape, served: Served, q: int) -> dict[str, object]:
    """Per feature its value, state, substitute, and the position it was read at."""
    positions = {role: positions_data(served, role) for role in served.positions}
    values = plan.named(served.values)
    return {
        name: {
            "value": values[name],
            "state": state,
            "substitute": substitute,
            "at": written_time(q),
            "position": positions.get(role),
        }
        for name, role, state, substitute in zip(
            plan.outputs, plan.roles, served.states, served.substitutes, strict=True
        )
    }


def positions_data(served: Served, role: str) -> dict[str, object]:
    """One view's position as data: version, its cut (UTC µs) and the head offsets."""
    position = served.positions[role]
    return {
        "version": position.version,
        "cut": position.cut,
        "offsets": list(position.offsets),
    }
