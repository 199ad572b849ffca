"""Guardrails: a visible stack of steps before, during and after a model answers."""

from genai_gateway.guardrails.policy import Policy, Step, read_policy

__all__ = ["Policy", "Step", "read_policy"]
