"""The port to model servers: one POST, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol


class Response(Protocol):
    """A response whose head has arrived."""

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamFailed if it breaks off or is too long."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises UpstreamFailed if it breaks off."""
        ...

    def close(self) -> None:
        """Hangs up, unless the body was read to its end."""
        ...


class Upstream(Protocol):
    """Sends requests."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Sends a request and waits for the head of the response; header names are lower case.

        Raises UpstreamFailed: unknown host, refused, reset, not HTTP, not allowed to go there.
        """
        ...
