"""What the checkpoint remembers of a partition beside the states, in JSON that is saved with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import orjson

from features.stream.checkpoint import Checkpoint
from features.stream.generation import Progress
from features.stream.landing import Landed
from features.stream.screen import OUTCOMES, Block

QUARANTINE = "quarantine"
_COUNTS, _GENERATIONS, _LANDED = "counts", "generations", "landed"
_BYTES = 8


@dataclass(slots=True)
class Tally:
    """What became of the events before ``offset``; ``newest`` is when the last was appended."""

    offset: int
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    newest: int | None = None

    def add(self, block: Block) -> None:
        """Counts the next events."""
        for outcome, count in block.counts().items():
            self.outcomes[outcome] += count
        self.offset, self.newest = block.end, block.newest

    @property
    def read(self) -> int:
        """How many events there were."""
        return sum(self.outcomes.values())


def saved_tally(checkpoint: Checkpoint, first: int) -> Tally:
    """The tally of the checkpoint's moment; a new one begins at ``first``."""
    raw = checkpoint.meta(_COUNTS)
    if raw is None:
        return Tally(first)
    counts = orjson.loads(raw)
    outcomes = dict.fromkeys(OUTCOMES, 0) | counts["outcomes"]
    return Tally(checkpoint.offset(), outcomes, counts["newest"])


def saved_progress(checkpoint: Checkpoint) -> list[Progress]:
    """The generations of the checkpoint's moment."""
    raw = checkpoint.meta(_GENERATIONS)
    return [] if raw is None else [Progress.of(data) for data in orjson.loads(raw)]


def saved_landed(checkpoint: Checkpoint) -> Landed:
    """How far landing had come."""
    raw = checkpoint.meta(_LANDED)
    return Landed() if raw is None else Landed(**orjson.loads(raw))


def saved_quarantine(checkpoint: Checkpoint) -> dict[int, str]:
    """Events that could not be computed, by offset, with their reasons."""
    found = checkpoint.scan(QUARANTINE)
    return {int.from_bytes(offset, "big"): reason.decode() for offset, reason in found}


def quarantine_changes(reasons: Mapping[int, str]) -> list[tuple[bytes, bytes]]:
    """Quarantined events as the checkpoint keeps them."""
    return [(offset.to_bytes(_BYTES, "big"), text.encode()) for offset, text in reasons.items()]


def flush_meta(tally: Tally, progress: Iterable[Progress]) -> dict[str, bytes]:
    """What a flush remembers."""
    counts = {"outcomes": tally.outcomes, "newest": tally.newest}
    generations = [one.to_data() for one in progress]
    return {_COUNTS: orjson.dumps(counts), _GENERATIONS: orjson.dumps(generations)}


def landed_meta(landed: Landed) -> dict[str, bytes]:
    """What a landing remembers."""
    return {_LANDED: orjson.dumps(asdict(landed))}
