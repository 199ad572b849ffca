"""Blocked phrases: whatever their case, their spacing and the invisible characters in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from genai_gateway.guardrails.detector import Finding

_MOST_SPACES = 4


class PhraseDetector:
    """Finds phrases as whole words, in any case, with any spacing between the words."""

    def __init__(self, phrases: Iterable[str], name: str = "phrases") -> None:
        self.name = name
        self._phrases = tuple(phrases)
        words = [phrase.split() for phrase in self._phrases]
        self.longest = max(
            sum(map(len, phrase)) + _MOST_SPACES * (len(phrase) - 1) for phrase in words
        )
        space = rf"\s{{1,{_MOST_SPACES}}}"
        expressions = [space.join(map(re.escape, phrase)) for phrase in words]
        self._expression = re.compile(
            "|".join(_bounded(e, p) for e, p in zip(expressions, self._phrases, strict=True)),
            re.IGNORECASE,
        )
        self._heads = tuple(" ".join(phrase).casefold() for phrase in words)

    def find(self, text: str) -> list[Finding]:
        """Every phrase in the text."""
        return [
            Finding("PHRASE", match.start(), match.end())
            for match in self._expression.finditer(text)
        ]

    def open_from(self, text: str) -> int:
        """Where a phrase may have begun whose end is still to come."""
        least = max(0, len(text) - self.longest - 1)
        for start in range(least, len(text)):
            tail = " ".join(text[start:].split()).casefold()
            if not tail or any(head.startswith(tail) for head in self._heads):
                return start
            # A whole phrase at the end may still turn out to be part of a longer word.
            if any(tail == head for head in self._heads):
                return start
        return len(text)


def _bounded(expression: str, phrase: str) -> str:
    """Whole words only, where the phrase begins and ends with letters that have word bounds."""
    before = r"(?<![A-Za-z0-9])" if phrase[:1].isascii() and phrase[:1].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if phrase[-1:].isascii() and phrase[-1:].isalnum() else ""
    return f"{before}{expression}{after}"
