"""WordPiece, the tokenizer of BERT's family: words in lower case, then the longest known pieces."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

_LONGEST_WORD = 100


class WordPiece:
    """Cuts text into the pieces of a vocabulary."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._pieces = vocabulary
        self._begin, self._end = vocabulary["[CLS]"], vocabulary["[SEP]"]
        self._unknown = vocabulary["[UNK]"]

    def tokens(self, text: str, longest: int) -> list[int]:
        """The numbers of the pieces between a begin and an end mark, ``longest`` at most in all."""
        pieces = [piece for word in _words(text) for piece in self._cut(word)]
        return [self._begin, *pieces[: longest - 2], self._end]

    def _cut(self, word: str) -> list[int]:
        pieces: list[int] = []
        start = 0
        while start < len(word):
            end = self._longest_piece(word, start)
            if end == start or len(word) > _LONGEST_WORD:
                return [self._unknown]
            pieces.append(self._pieces[_piece(word, start, end)])
            start = end
        return pieces

    def _longest_piece(self, word: str, start: int) -> int:
        for end in range(len(word), start, -1):
            if _piece(word, start, end) in self._pieces:
                return end
        return start


def _piece(word: str, start: int, end: int) -> str:
    return f"##{word[start:end]}" if start else word[start:end]


def _words(text: str) -> Iterator[str]:
    """Words without accents; punctuation and Chinese characters stand alone."""
    plain = unicodedata.normalize("NFD", text.lower())
    spaced = "".join(_spaced(c) for c in plain if unicodedata.category(c) != "Mn")
    yield from spaced.split()


def _spaced(character: str) -> str:
    if _is_punctuation(character) or "\u4e00" <= character <= "\u9fff":
        return f" {character} "
    if unicodedata.category(character).startswith("C") and character not in "\t\n\r":
        return ""
    return character


def _is_punctuation(character: str) -> bool:
    # All of ASCII that is neither letter, digit nor space counts, as in the original.
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")
