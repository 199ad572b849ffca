"""Who may ask."""

from app.access.keys import Key, KeyFile, ensure_operator_key

__all__ = ["Key", "KeyFile", "ensure_operator_key"]
