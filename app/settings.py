"""Settings: the defaults, a file over them, the environment over both, checked at start.

Nothing else reads configuration or ``TONDO_*`` variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from app.errors import SettingsError
from features.naming import did_you_mean

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PREFIX = "TONDO_"
CONFIG_VARIABLE = "TONDO_CONFIG"
CLUSTER_VARIABLE = "TONDO_CLUSTER"
SERVERS_VARIABLE = "TONDO_SERVERS_DIR"  # where the tests keep the servers that they start
_NOT_SETTINGS = frozenset({CONFIG_VARIABLE, CLUSTER_VARIABLE, SERVERS_VARIABLE})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Port = Annotated[int, Field(ge=1, le=65535)]
_WholePath = Annotated[str, Field(pattern=r"^(/.*)?$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _switch(value: Any) -> Any:
    """YAML reads an unquoted on or off as a boolean."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _place(value: Any) -> Any:
    """An empty path would be the current directory, which nobody means by it."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is empty")
    return value


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(_Group):
    """The one HTTP port of predictions and features."""

    host: str
    port: Port
    auth: Annotated[Literal["on", "off"], BeforeValidator(_switch)]

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> HttpSettings:
        if self.auth == "off" and self.host not in _LOOPBACK:
            raise ValueError(f"auth: off is for loopback only, not for host {self.host}")
        return self


class RaySettings(_Group):
    """The Ray cluster that ``up`` starts."""

    port: Port
    temp_dir: str
    num_cpus: Annotated[int, Field(ge=1)]
    object_store_bytes: Annotated[int, Field(ge=80_000_000)]


class PortSettings(_Group):
    """A service of Ray's that listens on one port."""

    port: Port


class ServingSettings(_Group):
    """Predictor replicas, their log, and HAProxy's ports."""

    replicas: Annotated[int, Field(ge=1)]
    replica_cpus: Annotated[float, Field(gt=0)]
    max_in_flight: Annotated[int, Field(ge=1)]
    log_rate: Annotated[float, Field(ge=0, le=1)]
    haproxy_metrics_port: Port
    haproxy_stats_port: Port
    first_replica_port: Port
    last_replica_port: Port

    @model_validator(mode="after")
    def _room_for_every_replica(self) -> ServingSettings:
        if self.last_replica_port - self.first_replica_port < self.replicas - 1:
            raise ValueError(
                f"ports {self.first_replica_port} to {self.last_replica_port} are too few for "
                f"{self.replicas} replicas"
            )
        return self


class ControlSettings(_Group):
    """The reconcile loop."""

    interval_s: Seconds
    validation_timeout_s: Seconds
    staging_timeout_s: Seconds


class StreamSettings(_Group):
    """Stream workers and the event log; a password stands in a file of its own."""

    flush_s: Seconds
    land_s: Seconds
    log: Literal["embedded", "kafka", "redis"]
    log_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
    log_timeout_s: Seconds
    kafka_servers: Annotated[str, Field(min_length=1)]
    kafka_replication: Annotated[int, Field(ge=1)]
    redis_url: Annotated[str, Field(pattern=r"^(redis|rediss|unix)://")]
    redis_password_file: str
    redis_replicas: Annotated[int, Field(ge=0)]
    redis_must_fsync: bool


class LakeSettings(_Group):
    """What ingest lets into the lake."""

    future_tolerance_s: Annotated[int, Field(ge=0)]


class OnlineSettings(_Group):
    """The online store, and reading it. Passwords stand in files of their own."""

    cache_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    store: Literal["embedded", "redis", "cassandra"]
    deadline_s: Seconds
    redis_url: Annotated[str, Field(pattern=r"^(redis|rediss|unix)://")]
    redis_prefix: Annotated[str, Field(min_length=1)]
    redis_password_file: _WholePath
    cassandra_contact_points: Annotated[str, Field(min_length=1)]
    cassandra_port: Port
    cassandra_data_centre: Annotated[str, Field(min_length=1)]
    cassandra_keyspace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
    cassandra_replication: Annotated[int, Field(ge=1)]
    cassandra_user: str
    cassandra_password_file: _WholePath
    cassandra_ca_file: _WholePath

    @model_validator(mode="after")
    def _no_password_in_the_open(self) -> OnlineSettings:
        user, at, _ = self.redis_url.partition("://")[2].partition("@")
        if (at and ":" in user) or "password=" in self.redis_url:
            raise ValueError("redis_url has a password: put it into redis_password_file")
        return self


class Settings(_Group):
    """Everything that can be configured; ``home`` is absolute once loaded."""

    home: Annotated[Path, BeforeValidator(_place)]
    http: HttpSettings
    ray: RaySettings
    dashboard: PortSettings
    metrics: PortSettings
    serving: ServingSettings
    control: ControlSettings
    stream: StreamSettings
    lake: LakeSettings
    online: OnlineSettings

    @model_validator(mode="after")
    def _ports_of_their_own(self) -> Settings:
        taken: dict[int, str] = {}
        for key, port in _fixed_ports(self).items():
            other = taken.setdefault(port, key)
            if other != key:
                raise ValueError(f"{other} and {key} are both {port}: each wants one of its own")
        return self


def _fixed_ports(settings: Settings) -> dict[str, int]:
    serving = settings.serving
    return {
        "http.port": settings.http.port,
        "ray.port": settings.ray.port,
        "dashboard.port": settings.dashboard.port,
        "metrics.port": settings.metrics.port,
        "serving.haproxy_metrics_port": serving.haproxy_metrics_port,
        "serving.haproxy_stats_port": serving.haproxy_stats_port,
    }


def load_settings(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """The settings in force: ``configs/base.yaml``, then a file, then the environment.

    Without ``config`` the file is that of ``TONDO_CONFIG``, if any. ``home`` is taken relative to
    ``directory``. Raises SettingsError naming the key and what it accepts.
    """
    environ = os.environ if environ is None else environ
    given = config or _path(environ.get(CONFIG_VARIABLE))
    data = _read(CONFIGS / "base.yaml")
    if given is not None:
        data = _overlaid(data, _read(given), str(given))
    data = _with_environment(data, environ)
    settings = checked_settings(data)
    home = (directory or Path.cwd()) / _expanded(settings.home)
    return settings.model_copy(update={"home": Path(os.path.abspath(home))})


def _expanded(home: Path) -> Path:
    try:
        return home.expanduser()
    except RuntimeError as error:
        raise SettingsError(f"setting home = {str(home)!r}: {error}", "Write it out.") from None


def checked_settings(data: Mapping[str, Any]) -> Settings:
    """Settings from data; raises SettingsError naming the first wrong key."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise _taught(error) from None


def variables() -> dict[str, str]:
    """Every environment variable that is a setting, with its key: TONDO_HTTP_PORT → http.port."""
    names = {f"{PREFIX}HOME": "home"}
    for group, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Group):
            names |= {
                f"{PREFIX}{group}_{leaf}".upper(): f"{group}.{leaf}" for leaf in _leaves(kind)
            }
    return names


def _leaves(kind: type[_Group]) -> list[str]:
    return list(kind.model_fields)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"settings file {path}: {error.strerror}", "Files to start from: configs/*.yaml."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"settings file {path} is not YAML: {error}", "See configs/base.yaml."
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(f"settings file {path} is not a mapping", "See configs/base.yaml.")
    return data


def _overlaid(base: dict[str, Any], over: Mapping[str, Any], where: str) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if key not in base:
            raise SettingsError(
                f"{where}: there is no setting {key!r}", did_you_mean(key, base, "settings")
            )
        if isinstance(base[key], dict):
            if not isinstance(value, Mapping):
                raise SettingsError(f"{where}: {key} is a group", f"Known: {', '.join(base[key])}.")
            value = _overlaid(base[key], value, where)
        merged[key] = value
    return merged


def _with_environment(data: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    known = variables()
    merged = {k: dict(v) if isinstance(v, dict) else v for k, v in data.items()}
    for name in sorted(n for n in environ if n.startswith(PREFIX) and n not in _NOT_SETTINGS):
        if name not in known:
            raise SettingsError(
                f"the environment variable {name} is no setting",
                did_you_mean(name, known, "variables"),
            )
        group, _, leaf = known[name].partition(".")
        if leaf:
            merged[group][leaf] = environ[name]
        else:
            merged[group] = environ[name]
    return merged


def _taught(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    key, value = ".".join(str(part) for part in first["loc"]), first.get("input")
    variable = next((v for v, known in variables().items() if known == key), "")
    shown = "" if isinstance(value, Mapping | BaseModel) else f" = {value!r}"
    by = f", or by {variable}" if variable else ""
    return SettingsError(
        f"setting{f' {key}' if key else 's'}{shown}: {first['msg'].removeprefix('Value error, ')}",
        f"Set it in a file given by --config{by}; configs/base.yaml has every key.",
    )
