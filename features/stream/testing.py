"""What tests of streams share: ports whose every call may be the last one."""

from __future__ import annotations

from typing import Any


class Crash(BaseException):
    """The process is dead; no code that handles errors sees this."""


class Fuse:
    """Kills once, after so many calls of ports were begun or answered; counts them in ``burnt``.

    ``after=None`` only counts.
    """

    def __init__(self, after: int | None = None) -> None:
        self.burnt = 0
        self._after = after

    def burn(self) -> None:
        """One step nearer to the end. Raises Crash there."""
        self.burnt += 1
        if self._after is not None and self.burnt > self._after:
            self._after = None
            raise Crash

    def guard(self, port: Any) -> Any:
        """The port, with the fuse before and behind each of its methods."""
        return _Guarded(port, self)


class _Guarded:
    def __init__(self, port: Any, fuse: Fuse) -> None:
        self._port, self._fuse = port, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._fuse.burn()
            answer = found(*arguments, **named)
            self._fuse.burn()
            return answer

        return call
