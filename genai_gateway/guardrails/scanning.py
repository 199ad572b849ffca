"""Detectors on streams: the same findings whatever the chunk boundaries, with a bounded hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from genai_gateway.errors import Blocked
from genai_gateway.guardrails.detector import (
    Detector,
    Finding,
    find_in,
    plain,
    replace_found,
)

_CONTEXT = 16
Put = Callable[[Finding, str], str]
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")


class Scanner:
    """Scans one channel of a stream, and holds back what may still become a finding.

    ``put`` says what stands in a finding's place. If it raises Blocked, the text up to there is
    still shown, ``blocked`` is the error, and nothing more is ever shown.
    """

    __slots__ = ("_before", "_detectors", "_held", "_put", "blocked")

    def __init__(self, detectors: Sequence[Detector], put: Put) -> None:
        self._detectors = detectors
        self._put = put
        self._held = ""
        # The characters before what is held: findings may depend on a few of them.
        self._before = ""
        self.blocked: Blocked | None = None

    def feed(self, text: str) -> str:
        """What may be shown after this piece."""
        if self.blocked is not None:
            return ""
        self._held += text
        return self._shown(_cut(self._held, self._detectors))

    def end(self) -> str:
        """What was held back."""
        return self._shown(len(self._held))

    def _shown(self, cut: int) -> str:
        whole, skip = self._before + self._held, len(self._before)
        found = [f for f in find_in(self._detectors, whole) if f.start >= skip]
        for finding in found:
            if finding.start < cut + skip < finding.end:
                cut = finding.start - skip
        due = [f for f in found if f.end <= cut + skip]
        shown = self._replaced(whole[: cut + skip], due)[skip:]
        self._before = whole[: cut + skip][-_CONTEXT:]
        self._held = "" if self.blocked else self._held[cut:]
        return shown

    def _replaced(self, text: str, found: list[Finding]) -> str:
        puts: list[str] = []
        for finding in found:
            try:
                puts.append(self._put(finding, text[finding.start : finding.end]))
            except Blocked as error:
                self.blocked = error
                text, found = text[: finding.start], found[: len(puts)]
                break
        given = iter(puts)
        return replace_found(text, found, lambda finding, value: next(given))


def _cut(text: str, detectors: Sequence[Detector]) -> int:
    """Up to where nothing can become part of a finding any more."""
    clear, places = plain(text)
    open_from = min((d.open_from(clear) for d in detectors), default=len(clear))
    return open_from if places is None else places[open_from]


class Unescaper:
    """Rewrites JSON text so that no letter hides behind an escape; its meaning stays the same."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What may be looked at after this piece."""
        text = self._held + text
        cut = len(text)
        tail = _HALF_ESCAPE.search(text)
        if tail is not None and _escaped_at(text, tail.start()):
            cut = tail.start()
        self._held = text[cut:]
        return _ESCAPE.sub(_unescaped, text[:cut])

    def end(self) -> str:
        """What was held back."""
        rest, self._held = self._held, ""
        return rest


def _escaped_at(text: str, start: int) -> bool:
    """Whether an escape begins at a backslash: an even number of backslashes stands before it."""
    before = text[:start]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 0


def _unescaped(match: re.Match[str]) -> str:
    code = int(match[1], 16) if match[1] else 0
    return chr(code) if 0x20 <= code < 0x7F and code not in (0x22, 0x5C) else match[0]
