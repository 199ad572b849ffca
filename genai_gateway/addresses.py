"""Which addresses the gateway may connect to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from genai_gateway.errors import ConfigurationError, UpstreamFailed


async def resolve(host: str, port: int, private: bool) -> list[str]:
    """The addresses of a host that may be connected to. Raises UpstreamFailed if there are none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UpstreamFailed("the upstream's host is not known") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    allowed = [address for address in addresses if may_connect(address, private)]
    if not allowed:
        raise UpstreamFailed("the upstream has only addresses that may not be connected to")
    return allowed


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
