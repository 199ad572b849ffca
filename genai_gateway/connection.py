"""HTTP to model servers, through aiohttp. No other file of the room opens a socket.

Redirects are not followed and proxies of the environment are not used. Addresses are checked
after the name is resolved, so that a name cannot be turned to a private address later.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from genai_gateway.errors import ConfigurationError, UpstreamFailed

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_CONNECT_S = 10.0


class HttpUpstream:
    """Sends requests over pooled connections; ``private`` allows addresses of private networks."""

    def __init__(self, private: bool = False) -> None:
        self._private = private
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
        """Sends a request and waits for the head of the response. Raises UpstreamFailed."""
        try:
            response = await self._open().post(
                url, data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamFailed(_said(error)) from None
        return HttpResponse(response)

    async def close(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=30, resolver=CheckedResolver(self._private)
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                headers={"accept-encoding": "identity", "user-agent": "tondo"},
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=2**18,
            )
        return self._session


class HttpResponse:
    """A response of aiohttp behind the port."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status: int = response.status
        self.headers: Mapping[str, str] = {k.lower(): v for k, v in response.headers.items()}

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamFailed if it breaks off or is too long."""
        parts: list[bytes] = []
        size = 0
        async for part in self.chunks():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                self.close()
                raise UpstreamFailed(f"the upstream's answer has more than {MAX_ANSWER_BYTES:,} B")
            parts.append(part)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises UpstreamFailed if it breaks off."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed(f"the upstream's answer broke off: {_said(error)}") from None

    def close(self) -> None:
        """Hangs up, unless the body was read to its end."""
        self._response.close()


class CheckedResolver(AbstractResolver):
    """Resolves names, and gives out only addresses that may be connected to."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError if none of them may be connected to."""
        found = await self._inner.resolve(host, port, family)
        allowed = [entry for entry in found if may_connect(entry["host"], self._private)]
        if not allowed:
            raise OSError(f"{host} has only addresses that the gateway may not connect to")
        return allowed

    async def close(self) -> None:
        """Nothing is held."""


def may_connect(address: str, private: bool) -> bool:
    """Whether an address may be connected to: public ones, and private ones if so configured.

    Link-local ones (the metadata services of clouds) never.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return private or ip.is_global


def checked_base_url(url: str, private: bool) -> str:
    """A base URL without its last slash. Raises ConfigurationError for one that is not safe."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is not an http or https URL")
    if parts.username or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the base URL for {parts.hostname} has more than scheme, host and path",
            "Give the secret by reference.",
        )
    if not _host_allowed(parts.hostname, private):
        raise ConfigurationError(
            f"{parts.hostname} is an address in a private network",
            "Say private: true for this provider if that is what you want.",
        )
    return url.rstrip("/")


def _host_allowed(host: str, private: bool) -> bool:
    try:
        return may_connect(host, private)
    except ValueError:
        return private or host != "localhost"


def _said(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the upstream's host is not known"
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"the upstream was not reached within {_CONNECT_S:g} s"
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionResetError)):
        return "the upstream hung up"
    if isinstance(error, aiohttp.ClientConnectorError):
        reason: Any = getattr(error.os_error, "strerror", None) or error.os_error
        return f"the upstream was not reached: {reason}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its end is missing"
    return f"{type(error).__name__}"
