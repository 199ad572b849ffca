"""Which path is which surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from genai_gateway.conversation import Json
from genai_gateway.errors import BadRequest, NotFound
from genai_gateway.surfaces.chat import ChatSurface
from genai_gateway.surfaces.completions import CompletionsSurface
from genai_gateway.surfaces.messages import MessagesSurface, refuse_removed
from genai_gateway.surfaces.responses import ResponsesSurface
from genai_gateway.surfaces.surface import Surface

ANTHROPIC_VERSIONS = ("2023-06-01", "2026-10-21")
_CHAT: Surface = ChatSurface()
_MESSAGES: Surface = MessagesSurface()

Kind = Literal["chat", "embeddings", "count", "models", "health"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path: what kind of request it takes, in whose words, and the scope that a key needs."""

    kind: Kind
    name: str
    surface: Surface
    scope: str
    model: str = ""
    anthropic: bool = False

    def check(self, headers: Mapping[str, str], body: Json) -> None:
        """Raises BadRequest for a version of the surface that is not spoken here, or a field that
        its version no longer has.
        """
        if not self.anthropic:
            return
        version = headers.get("anthropic-version", "")
        if version not in ANTHROPIC_VERSIONS:
            what = (
                f"anthropic-version {version!r} is not spoken here"
                if version
                else ("the header anthropic-version is missing")
            )
            raise BadRequest(what, f"Send anthropic-version: {' or '.join(ANTHROPIC_VERSIONS)}.")
        if version != ANTHROPIC_VERSIONS[0]:
            refuse_removed(body)


_POST = {
    "/v1/chat/completions": Endpoint("chat", "chat", _CHAT, "chat"),
    "/v1/completions": Endpoint("chat", "completions", CompletionsSurface(), "chat"),
    "/v1/responses": Endpoint("chat", "responses", ResponsesSurface(), "chat"),
    "/v1/messages": Endpoint("chat", "messages", _MESSAGES, "chat", anthropic=True),
    "/v1/messages/count_tokens": Endpoint("count", "count", _MESSAGES, "chat", anthropic=True),
    "/v1/embeddings": Endpoint("embeddings", "embeddings", _CHAT, "embeddings"),
}
_MODELS = Endpoint("models", "models", _CHAT, "models")
_HEALTH = Endpoint("health", "health", _CHAT, "models")


def endpoint_of(method: str, path: str) -> Endpoint:
    """The endpoint of a path. Raises NotFound."""
    if method == "POST" and path in _POST:
        return _POST[path]
    if method == "GET":
        if path == "/v1/models":
            return _MODELS
        if path.startswith("/v1/models/"):
            return Endpoint("models", "models", _CHAT, "models", unquote(path[11:]))
        if path in ("/healthz", "/health"):
            return _HEALTH
    raise NotFound(
        f"{method} {path} is not a route of the gateway",
        f"POST {', '.join(_POST)}; GET /v1/models.",
    )


def surface_for_errors(endpoint: Endpoint | None, headers: Mapping[str, str]) -> Surface:
    """The surface in whose shape errors are told: the endpoint's, or the one its client speaks."""
    if endpoint is not None and endpoint.kind not in ("models", "health"):
        return endpoint.surface
    return _MESSAGES if "anthropic-version" in headers else _CHAT
