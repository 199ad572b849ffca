"""How a process changes the control plane's state: through the control actor, or by itself."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from app.compose import Platform
from app.control.service import ControlService
from app.errors import Conflict, TondoError, Unavailable
from app.lifecycle.cluster import NAMESPACE, Cluster, connect
from training.gallery import AliasMove, Gallery, ModelVersion, from_data, move_from_data, to_data

CONTROL_ACTOR = "tondo:control"
_ANSWER_SECONDS = 60.0


class Control(Protocol):
    """Where commands go."""

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """The answer to a command of the control service."""
        ...


@contextmanager
def control(platform: Platform, who: str) -> Iterator[Control]:
    """The control plane to command: the actor while the platform is up, else this process.

    Raises Conflict naming the holder while another process writes.
    """
    cluster = platform.cluster()
    if cluster is not None:
        yield ActorControl(cluster)
        return
    try:
        catalog = platform.catalog_writer(who)
    except Conflict as error:
        raise _while_starting(platform, error) from None
    with catalog, platform.gallery_writer(who) as gallery:
        yield ControlService(catalog, gallery, platform.table_rows)


def _while_starting(platform: Platform, error: Conflict) -> Conflict:
    return Conflict(f"{platform.home.root}: {error.what}", error.hint)


def whoami() -> str:
    """The person at the keyboard, for the record of who changed what."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class ActorControl:
    """Implements Control through Ray."""

    def __init__(self, cluster: Cluster) -> None:
        self._ray = connect(cluster)

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """The actor's answer; its errors come back as they were raised."""
        return self.call("ask", command, dict(arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        """The answer of one of the actor's methods."""
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

        try:
            actor = self._ray.get_actor(CONTROL_ACTOR, namespace=NAMESPACE)
            asked = getattr(actor, method).remote(*arguments)
            return self._ray.get(asked, timeout=_ANSWER_SECONDS)
        except RayTaskError as error:
            if isinstance(error.cause, TondoError):
                raise error.cause from None
            raise
        except (GetTimeoutError, RayActorError, ValueError) as error:
            raise Unavailable(
                f"the control actor does not answer: {type(error).__name__}",
                "Look at it with: tondo status; start again with: tondo down, tondo up.",
            ) from error


class ControlledGallery:
    """Implements Gallery: reads the file, sends what changes it to the control plane."""

    def __init__(self, platform: Platform, commands: Control) -> None:
        self._platform = platform
        self._commands = commands

    def create(self, draft: ModelVersion) -> ModelVersion:
        """Numbers a draft; see Gallery."""
        return from_data(self._commands.ask("create_version", {"draft": to_data(draft)}))

    def get(self, family: str, reference: int | str) -> ModelVersion:
        """One version; see Gallery."""
        with self._platform.gallery() as gallery:
            return gallery.get(family, reference)

    def list(self, family: str | None = None) -> tuple[ModelVersion, ...]:
        """Versions; see Gallery."""
        with self._platform.gallery() as gallery:
            return gallery.list(family)

    def move_alias(
        self,
        family: str,
        alias: str,
        to: int | None,
        expect: int | None,
        *,
        actor: str = "",
        reason: str = "",
    ) -> AliasMove:
        """Moves an alias; see Gallery."""
        arguments = {"family": family, "alias": alias, "to": to, "expect": expect}
        told = {**arguments, "actor": actor, "reason": reason}
        return move_from_data(self._commands.ask("move_alias", told))

    def history(self, family: str) -> tuple[AliasMove, ...]:
        """Alias moves; see Gallery."""
        with self._platform.gallery() as gallery:
            return gallery.history(family)


def controlled_gallery(platform: Platform, commands: Control) -> Gallery:
    """Gallery as a job sees it."""
    return ControlledGallery(platform, commands)
