"""A policy tried on one text, without any model: what authors of policies look at."""

from __future__ import annotations

from typing import Any

from genai_gateway.errors import Blocked
from genai_gateway.guardrails.placeholders import Vault
from genai_gateway.guardrails.policy import Policy
from genai_gateway.guardrails.steps import Guard, Report


def try_policy(policy: Policy, text: str) -> dict[str, Any]:
    """What the input steps find in a text, what becomes of it, and whether it passes."""
    report = Report(policy.label)
    visitor = Guard(policy).visit_input(Vault.apart_from(text), report)
    try:
        becomes = visitor.text(text, "messages[0].text")
        outcome = "passed" if becomes == text else "changed"
    except Blocked as error:
        becomes, outcome = error.what, "refused"
    found = [f"{step}:{kind}" for _, step, kind, _ in report.found]
    return {"outcome": outcome, "found": found, "becomes": becomes}
