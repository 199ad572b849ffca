"""The GenAI Gateway of this installation: its files, and a replica put together from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.compose import Platform, platform_at
from app.errors import NotFound, SettingsError
from genai_gateway.assembly import Parts, open_gateway
from genai_gateway.clock import SystemClock
from genai_gateway.config import GatewayConfig, read_config
from genai_gateway.errors import ConfigurationError
from genai_gateway.http import GatewayApp
from genai_gateway.keys import Caller, Doorkeeper, FileKeys
from genai_gateway.money.ledger import Ledger
from genai_gateway.records.audit import AuditFile
from genai_gateway.records.metrics import BufferedMeters, Meters, MetricsRecorder
from genai_gateway.records.spans import SpanRecorder

_DEFAULT = Path(__file__).resolve().parent.parent / "configs" / "llm.yaml"


@dataclass(frozen=True, slots=True)
class LlmHome:
    """Where the gateway's files lie."""

    root: Path

    @classmethod
    def of(cls, platform: Platform) -> LlmHome:
        """The gateway's folder of an installation."""
        return cls(platform.home.root / "llm")

    @property
    def config(self) -> Path:
        """Providers, models, policies."""
        return self.root / "gateway.yaml"

    @property
    def keys(self) -> Path:
        """Keys by digest."""
        return self.root / "keys.json"

    @property
    def ledger(self) -> Path:
        """What was spent."""
        return self.root / "ledger.db"

    @property
    def audit(self) -> Path:
        """One chain of records for each replica that ever was."""
        return self.root / "audit"


def load_config(path: Path) -> GatewayConfig:
    """The gateway's configuration from a file. Raises NotFound, SettingsError."""
    try:
        data = yaml.safe_load(path.read_text())
        return read_config(data)
    except FileNotFoundError:
        raise NotFound(
            f"there is no {path}", "`tondo llm init` writes one to start from."
        ) from None
    except (ConfigurationError, yaml.YAMLError) as error:
        what = error.what if isinstance(error, ConfigurationError) else str(error)
        raise SettingsError(f"{path}: {what}", getattr(error, "hint", "")) from None


def write_default_config(home: LlmHome) -> bool:
    """Writes a configuration to start from, unless there is one."""
    if home.config.exists():
        return False
    home.root.mkdir(parents=True, exist_ok=True)
    home.config.write_text(_DEFAULT.read_text())
    return True


def build_gateway(home: str, replica: str) -> GatewayApp:
    """A gateway of the installation at ``home``; Serve calls this in the replica's process."""
    from app.lifecycle.cluster import NAMESPACE
    from genai_gateway.on_ray import RayLedger, RayMeters, find_ledger
    from serving.http import FastLane

    platform = platform_at(Path(home))
    app = make_gateway(platform, replica, RayLedger(find_ledger(NAMESPACE)), RayMeters())
    FastLane.open(app)
    return app


def make_gateway(platform: Platform, replica: str, ledger: Ledger, meters: Meters) -> GatewayApp:
    """A gateway from an installation's files, with its books and metrics elsewhere."""
    files, clock = LlmHome.of(platform), SystemClock()
    buffered = BufferedMeters(meters)
    keys = FileKeys([files.keys, platform.home.keys], clock)
    anonymous = Caller("anonymous", "default") if platform.settings.http.auth == "off" else None
    audit = AuditFile(files.audit / f"{clock.now()}-{replica}.jsonl")
    parts = Parts(
        replica=replica,
        doorkeeper=Doorkeeper(keys, clock, anonymous),
        ledger=ledger,
        recorders=(audit, MetricsRecorder(buffered), SpanRecorder()),
        clock=clock,
        every_second=(buffered.flush,),
    )
    return open_gateway(load_config(files.config), parts)


def describe(config: GatewayConfig) -> list[dict[str, Any]]:
    """The models of a configuration, one row each."""
    return [
        {
            "model": route.name,
            "targets": [target.name for target in route.targets],
            "policy": route.policy,
            "cacheSeconds": route.cache_s,
        }
        for route in config.routes.values()
    ]
