"""Limits and money: what may be used, what is promised, and what was spent."""

from genai_gateway.money.ledger import Batch, Grant, Ledger, Meter

__all__ = ["Batch", "Grant", "Ledger", "Meter"]
