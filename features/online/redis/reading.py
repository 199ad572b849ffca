"""One question to Redis for all keys of a view, and what its answer means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from features.online.catalog import Entries, Entry, entry_of, published
from features.online.redis.scripts import MARK
from features.online.rules import version_at
from features.online.sealing import damaged, opened_cell, unpack_head
from features.online.store import Found, Head

_UNPUBLISHED = Found()


@dataclass(frozen=True, slots=True)
class Known:
    """A view's versions, as Redis has them (None: it has none) and decoded."""

    raw: bytes | None = None
    entries: Entries = ()


@dataclass(slots=True)
class Question:
    """What is asked of one view: its version, and each key once."""

    view: str
    known: Known
    entry: Entry | None
    keys: dict[bytes, None] = field(default_factory=dict)

    @property
    def pieces(self) -> list[str]:
        """The hashes to ask: the tail, then the heads that there are."""
        if self.entry is None or self.entry.tail is None:
            return []
        return [self.entry.tail.name, *(name for name in self.entry.heads if name is not None)]

    def found(self, answers: Iterator[list[bytes | None]]) -> dict[bytes, Found]:
        """By key what was found; takes an answer for each piece. Raises DamagedData."""
        if self.entry is None:
            return dict.fromkeys(self.keys, _UNPUBLISHED)
        entry, version = self.entry, self.entry.version
        tail = self._cells(next(answers))[1:]
        heads: list[Sequence[bytes | None]] = []
        positions: list[Head] = []
        for name in entry.heads:
            if name is None:
                heads.append([None] * len(tail))
                positions.append(Head(0, None, version.cut))
                continue
            mark, *cells = self._cells(next(answers))
            positions.append(unpack_head(opened_cell(MARK, mark or b"", f"A head of {self.view}")))
            heads.append(cells)
        by_key = zip(*heads, strict=True) if heads else ((),) * len(tail)
        moment = tuple(positions)
        return {
            key: Found(version, cell, tuple(of_key), moment)
            for key, cell, of_key in zip(self.keys, tail, by_key, strict=True)
        }

    def _cells(self, answer: list[bytes | None]) -> list[bytes | None]:
        """The mark of a piece and its cells, checked; a piece without mark is lost."""
        mark, *raw = answer
        if not mark:
            raise damaged(f"A version of {self.view}")
        what = f"A cell of {self.view}"
        cells = [
            None if cell is None else opened_cell(key, cell, what)
            for key, cell in zip(self.keys, raw, strict=True)
        ]
        return [mark, *cells]


def questions(
    wanted: Sequence[tuple[str, bytes]], known: Mapping[str, Known], at: int
) -> dict[str, Question]:
    """A question for each view, in order of appearance, as far as its versions are known."""
    found: dict[str, Question] = {}
    for view, key in wanted:
        question = found.get(view)
        if question is None:
            question = found[view] = _question(view, known.get(view) or Known(), at)
        question.keys[key] = None
    return found


def _question(view: str, known: Known, at: int) -> Question:
    version = version_at(published(known.entries), at)
    return Question(view, known, None if version is None else entry_of(known.entries, version))
