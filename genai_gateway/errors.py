"""The base of everything the gateway refuses on purpose."""

from __future__ import annotations


class GatewayError(Exception):
    """Base of the gateway's errors: what happened, and a hint. Arguments equal ``args``."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nHint: {self.hint}" if self.hint else self.what
