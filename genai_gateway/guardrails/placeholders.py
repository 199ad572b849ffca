"""Placeholders: one for each value found in a conversation, and the way back.

A placeholder is ``ANONYMIZED_EMAIL_0``: one word that models copy faithfully and that needs no
escape in JSON. Numbers follow the order in which values first stand in the conversation, so every
turn of a conversation gives a value the same placeholder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import orjson

_MARK = "ANONYMIZED"


class Vault:
    """The placeholders of one exchange. ``mark`` must not stand in the conversation itself."""

    def __init__(self, mark: str = _MARK) -> None:
        self._mark = mark
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._expression: re.Pattern[str] | None = None
        self._longest = 0

    @classmethod
    def apart_from(cls, text: str) -> Vault:
        """A vault whose placeholders cannot be taken for anything that stands in a text."""
        mark, number = _MARK, 1
        while mark in text:
            number += 1
            mark = f"{_MARK}{number}X"
        return cls(mark)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def longest(self) -> int:
        """The length of the longest placeholder."""
        return self._longest

    def hide(self, kind: str, value: str) -> str:
        """The placeholder for a value, a new one if it is the first time."""
        placeholder = self._placeholders.get((kind, value))
        if placeholder is None:
            placeholder = f"{self._mark}_{kind}_{self._counts[kind]}"
            self._counts[kind] += 1
            self._expression = None
            self._placeholders[kind, value] = placeholder
            self._values[placeholder] = value
            self._longest = max(self._longest, len(placeholder))
        return placeholder

    def restore(self, text: str) -> str:
        """The text with its values in the place of the placeholders; unknown ones stay."""
        if self._mark not in text or not self._values:
            return text
        return self._known().sub(lambda m: self._values[m[0]], text)

    def restore_json(self, text: str) -> str:
        """The same inside JSON text, with the values escaped as its strings want it."""
        if self._mark not in text or not self._values:
            return text
        return self._known().sub(lambda m: orjson.dumps(self._values[m[0]]).decode()[1:-1], text)

    def open_from(self, text: str) -> int:
        """Where a placeholder may have begun whose end is still to come; the length if nowhere."""
        for start in range(max(0, len(text) - self._longest), len(text)):
            tail = text[start:]
            if tail[0] == _MARK[0] and any(name.startswith(tail) for name in self._values):
                return start
        return len(text)

    def binding(self) -> tuple[tuple[str, str], ...]:
        """What each placeholder stands for, in order: part of what a cached answer depends on."""
        return tuple(self._values.items())

    def _known(self) -> re.Pattern[str]:
        """Exactly the placeholders given out; a digit more would make it another one."""
        if self._expression is None:
            names = sorted(self._values, key=len, reverse=True)
            self._expression = re.compile(f"(?:{'|'.join(names)})(?!\\d)")
        return self._expression


class Restorer:
    """Restores one channel of a stream, holding back no more than the longest placeholder."""

    __slots__ = ("_held", "_restore", "_vault")

    def __init__(self, vault: Vault, json: bool = False) -> None:
        self._vault = vault
        self._held = ""
        self._restore: Callable[[str], str] = vault.restore_json if json else vault.restore

    def feed(self, text: str) -> str:
        """What may be shown after this piece."""
        text = self._held + text
        cut = self._vault.open_from(text)
        self._held = text[cut:]
        return self._restore(text[:cut])

    def end(self) -> str:
        """What was held back."""
        rest, self._held = self._restore(self._held), ""
        return rest
