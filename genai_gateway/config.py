"""What an operator writes down: providers, models, policies; checked when it is read.

Every key is known or refused. The data is what a YAML or JSON file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genai_gateway.conversation import Json
from genai_gateway.errors import BadRequest, ConfigurationError
from genai_gateway.guardrails.policy import Policy, read_policy
from genai_gateway.keys import ProjectLimits
from genai_gateway.prices import Price, read_price
from genai_gateway.reading import Fields
from genai_gateway.routing import Retries, Route, Target, Timeouts

SCHEMAS = ("anthropic", "echo", "gemini", "minilm", "openai", "openai-responses")
_LACKS = frozenset({"audios", "choices", "documents", "images", "schema", "tools"})


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One provider: its schema, where it is, and where its secret is."""

    name: str
    schema: str
    base_url: str = ""
    secret: str = ""
    private: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    max_tokens_field: str = "max_completion_tokens"
    key_header: str = "authorization"
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Everything that the gateway is told."""

    providers: tuple[ProviderConfig, ...]
    routes: Mapping[str, Route]
    policies: Mapping[str, Policy] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    projects: Mapping[str, ProjectLimits] = field(default_factory=dict)
    max_body_bytes: int = 8 * 1024 * 1024


def read_config(data: Any) -> GatewayConfig:
    """A configuration from data. Raises ConfigurationError, naming the place."""
    try:
        return _read(Fields(data, "the gateway's configuration"))
    except BadRequest as error:
        raise ConfigurationError(error.what, error.hint) from None


def _read(fields: Fields) -> GatewayConfig:
    fields.where = ""
    providers = tuple(
        _provider(n, Fields(d, f"providers.{n}")) for n, d in _named(fields, "providers")
    )
    policies = {
        n: read_policy(n, Fields(d, f"policies.{n}")) for n, d in _named(fields, "policies")
    }
    routes = {n: _route(n, Fields(d, f"models.{n}")) for n, d in _named(fields, "models")}
    config = GatewayConfig(
        providers=providers,
        routes=routes,
        policies=policies,
        prices={n: read_price(Fields(d, f"prices.{n}")) for n, d in _named(fields, "prices")},
        projects={n: _project(Fields(d, f"projects.{n}")) for n, d in _named(fields, "projects")},
        max_body_bytes=fields.integer("max_body_bytes", least=1_000) or 8 * 1024 * 1024,
    )
    _done(fields)
    _check(config)
    return config


def _named(fields: Fields, name: str) -> list[tuple[str, Json]]:
    return list(fields.mapping(name, {}).items())


def _provider(name: str, fields: Fields) -> ProviderConfig:
    config = ProviderConfig(
        name=name,
        schema=fields.text("schema"),
        base_url=fields.text("base_url", ""),
        secret=fields.text("secret", ""),
        private=bool(fields.flag("private")),
        headers=fields.mapping("headers", {}),
        max_tokens_field=fields.text("max_tokens_field", "max_completion_tokens"),
        key_header=fields.text("key_header", "authorization"),
        delay_s=fields.number("delay_s") or 0.0,
    )
    if config.schema not in SCHEMAS:
        raise fields.wrong("schema", ", ".join(SCHEMAS), config.schema)
    if config.schema not in ("echo", "minilm") and not config.base_url:
        raise fields.missing("base_url")
    _done(fields)
    return config


def _route(name: str, fields: Fields) -> Route:
    place = fields.place("targets")
    targets = [Fields(d, f"{place}[{n}]") for n, d in enumerate(fields.items("targets"))]
    times = Fields(fields.mapping("timeouts", {}), fields.place("timeouts"))
    tries = Fields(fields.mapping("retries", {}), fields.place("retries"))
    route = Route(
        name=name,
        targets=tuple(_target(target) for target in targets),
        timeouts=Timeouts(
            times.number("first_token_s", 0.001) or 10.0,
            times.number("between_tokens_s", 0.001) or 10.0,
            times.number("total_s", 0.001) or 120.0,
        ),
        retries=Retries(
            tries.integer("rounds", least=1) or 3,
            tries.number("backoff_s") or 0.25,
            tries.number("longest_wait_s") or 5.0,
        ),
        hedge_after_s=fields.number("hedge_after_s") or 0.0,
        policy=fields.text("policy", ""),
        cache_s=fields.integer("cache_s", least=0) or 0,
        max_output_tokens=fields.integer("max_output_tokens", least=1) or 4096,
        allow_unpriced=bool(fields.flag("allow_unpriced")),
    )
    if not targets:
        raise fields.wrong("targets", "at least one target", [])
    for each in (fields, times, tries):
        _done(each)
    return route


def _target(fields: Fields) -> Target:
    lacks = frozenset(fields.items("lacks", []))
    if lacks - _LACKS:
        raise fields.wrong("lacks", f"some of {', '.join(sorted(_LACKS))}", sorted(lacks - _LACKS))
    weight = fields.number("weight")
    target = Target(
        provider=fields.text("provider"),
        model=fields.text("model"),
        weight=1.0 if weight is None else weight,
        priority=fields.integer("priority", least=0) or 0,
        context_tokens=fields.integer("context_tokens", least=1) or 0,
        lacks=lacks,
    )
    _done(fields)
    return target


def _project(fields: Fields) -> ProjectLimits:
    limits = ProjectLimits(
        usd_per_month=fields.number("usd_per_month") or 0.0,
        requests_per_minute=fields.integer("requests_per_minute", least=0) or 0,
        tokens_per_minute=fields.integer("tokens_per_minute", least=0) or 0,
        user_usd_per_month=fields.number("user_usd_per_month") or 0.0,
    )
    _done(fields)
    return limits


def _done(fields: Fields) -> None:
    for name in fields.rest():
        place = fields.place(name)
        raise ConfigurationError(f"{place} is not a setting", "Take it out, or mend its name.")


def _check(config: GatewayConfig) -> None:
    providers = {provider.name for provider in config.providers}
    for route in config.routes.values():
        for target in route.targets:
            if target.provider not in providers:
                raise ConfigurationError(
                    f"models.{route.name} asks a provider {target.provider} that is not there",
                    f"There are: {', '.join(sorted(providers)) or 'none'}.",
                )
        if route.policy and route.policy not in config.policies:
            raise ConfigurationError(
                f"models.{route.name} wants a policy {route.policy} that is not there",
                f"There are: {', '.join(sorted(config.policies)) or 'none'}.",
            )
