"""The port of detectors, and text made plain before they look at it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

# Characters that show nothing, and so hide things: they are looked through.
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found in a text: what kind, and where (characters, end excluded)."""

    kind: str
    start: int
    end: int


class Detector(Protocol):
    """Finds one family of things in a text.

    ``longest`` bounds the length of a finding, so that a stream can be scanned with a bounded part
    of it held back; what is found must not depend on more than three characters before it and one
    after it.
    """

    name: str
    longest: int

    def find(self, text: str) -> Iterable[Finding]:
        """Findings in the order of their beginnings, not overlapping one another."""
        ...

    def open_from(self, text: str) -> int:
        """Where a finding may begin that more text would complete or change; the length if nowhere.

        It may be too early, never too late.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of thing: a regular expression, a cheap sign that it may be there, and a proof.

    ``hint`` is a string without which the expression cannot match (empty: a digit must be there).
    """

    kind: str
    expression: re.Pattern[str]
    hint: str
    valid: Callable[[str], bool] | None = None


class PatternDetector:
    """Finds what regular expressions match and their validators confirm."""

    def __init__(
        self,
        name: str,
        patterns: Iterable[Pattern],
        sign: re.Pattern[str],
        open_tail: re.Pattern[str],
    ) -> None:
        self.name = name
        self.longest = 512
        self._patterns = tuple(patterns)
        # Without this sign nothing can be found: most texts are looked at no further.
        self._sign = sign
        self._open_tail = open_tail

    def find(self, text: str) -> list[Finding]:
        """Findings, the longer first where two begin at once; overlapping ones are left out."""
        if self._sign.search(text) is None:
            return []
        found = [finding for pattern in self._patterns for finding in _matches(pattern, text)]
        return without_overlaps(found)

    def open_from(self, text: str) -> int:
        """The beginning of the last run of characters that a finding may consist of."""
        match = self._open_tail.search(text, max(0, len(text) - self.longest - 1))
        return match.start() if match else len(text)


def without_overlaps(found: list[Finding]) -> list[Finding]:
    """The findings from left to right; of two that overlap, the first, or the longer, counts."""
    if len(found) < 2:
        return found
    kept: list[Finding] = []
    for finding in sorted(found, key=lambda f: (f.start, -f.end)):
        if not kept or finding.start >= kept[-1].end:
            kept.append(finding)
    return kept


def plain(text: str) -> tuple[str, list[int] | None]:
    """A text without invisible characters and with full-width ones made narrow, and where each
    character stood; None if the text is plain already.
    """
    if text.isascii() or (unicodedata.is_normalized("NFKC", text) and not _INVISIBLE.search(text)):
        return text, None
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if _INVISIBLE.match(character):
            continue
        narrow = unicodedata.normalize("NFKC", character)
        characters += narrow
        places += [place] * len(narrow)
    places.append(len(text))
    return "".join(characters), places


def find_in(detectors: Iterable[Detector], text: str) -> list[Finding]:
    """What the detectors find in a text, also behind invisible and full-width characters."""
    clear, places = plain(text)
    found = [finding for detector in detectors for finding in detector.find(clear)]
    if not found:
        return found
    kept = without_overlaps(found)
    if places is None:
        return kept
    return [_placed(finding, places) for finding in kept]


def replace_found(text: str, found: list[Finding], put: Callable[[Finding, str], str]) -> str:
    """The text with ``put(finding, found text)`` in the place of each finding."""
    if not found:
        return text
    ends = [0, *(finding.end for finding in found)]
    gaps = [text[end : finding.start] for end, finding in zip(ends, found, strict=False)]
    puts = [put(finding, text[finding.start : finding.end]) for finding in found]
    return (
        "".join(part for pair in zip(gaps, puts, strict=True) for part in pair) + text[ends[-1] :]
    )


def _placed(finding: Finding, places: list[int]) -> Finding:
    # The end is where the last character ends, so that invisible ones behind it stay.
    return Finding(finding.kind, places[finding.start], places[finding.end - 1] + 1)


def _matches(pattern: Pattern, text: str) -> Iterator[Finding]:
    if pattern.hint and pattern.hint not in text:
        return
    for match in pattern.expression.finditer(text):
        if pattern.valid is None or pattern.valid(match[0]):
            yield Finding(pattern.kind, match.start(), match.end())
