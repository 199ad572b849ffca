"""What the gateway refuses, and what its upstreams did: what happened, and a hint.

Constructor arguments equal ``args``, so an error survives a trip between processes. ``status`` is
the HTTP status; how an error looks on the wire is the business of the surface it is shown on.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of the gateway's errors: what happened, and a hint. Arguments equal ``args``."""

    status = 500

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nHint: {self.hint}" if self.hint else self.what


class BadRequest(GatewayError):
    """A request from outside does not have the promised shape; ``field`` names the place."""

    status = 400

    def __init__(self, what: str, hint: str = "", field: str = "") -> None:
        super().__init__(what, hint)
        self.args = (what, hint, field)
        self.field = field


class CannotTranslate(BadRequest):
    """A target's schema has no word for something that the request says."""


class Blocked(GatewayError):
    """A guardrail refused the request or the answer."""

    status = 400


class Unauthorized(GatewayError):
    """No key, or none that is in force."""

    status = 401


class Forbidden(GatewayError):
    """The key is in force, but not for this."""

    status = 403


class NotFound(GatewayError):
    """A model or a path is not known."""

    status = 404


class TooLarge(GatewayError):
    """The body is longer than the gateway takes."""

    status = 413


class Limited(GatewayError):
    """A rate limit is reached; ``retry_after_s`` says when to ask again."""

    status = 429

    def __init__(self, what: str, hint: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(what, hint)
        self.args = (what, hint, retry_after_s)
        self.retry_after_s = retry_after_s


class OutOfBudget(GatewayError):
    """The money of a project, a user or a key is used up or promised to others."""

    status = 429


class Unavailable(GatewayError):
    """The gateway itself cannot answer now."""

    status = 503


class ConfigurationError(GatewayError):
    """The gateway's configuration is wrong; found when it is read."""


class UpstreamFailed(GatewayError):
    """A model's server did not answer as it should.

    ``retryable`` says whether another try may help; ``retry_after_s`` is its own wish, 0 if none.
    """

    status = 502

    def __init__(
        self,
        what: str,
        hint: str = "",
        upstream_status: int = 0,
        retryable: bool = True,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(what, hint)
        self.args = (what, hint, upstream_status, retryable, retry_after_s)
        self.upstream_status = upstream_status
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class UpstreamTimedOut(UpstreamFailed):
    """A model's server took too long for its first token, its next token, or the whole answer."""

    status = 504
