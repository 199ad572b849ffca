"""The stream processor: one log partition into the heads of its views and into the lake.

Its state after an offset follows from the log before it and the code, and from nothing else. What
a flush writes goes to the online store first and to the checkpoint, with its offset, last: a crash
anywhere is a replay from the checkpoint that writes the same bytes again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from features.algebra.view import ViewAlgebra
from features.definitions import FeatureView
from features.durations import DAY
from features.errors import Conflict, DamagedData, NotFound, TondoError, Unavailable
from features.offline.lake import Lake
from features.online.materialize import view_id
from features.online.store import OnlineStore, Version
from features.sources import Source
from features.stream.checkpoint import Checkpoint
from features.stream.generation import Generation, Progress, space_of
from features.stream.ids import SPACE as IDS
from features.stream.ids import SeenIds, id_digests
from features.stream.landing import BLOCK, Lander
from features.stream.log import Event, EventLog
from features.stream.memo import (
    QUARANTINE,
    flush_meta,
    landed_meta,
    quarantine_changes,
    saved_landed,
    saved_progress,
    saved_quarantine,
    saved_tally,
)
from features.stream.replay import filled, filled_carefully, why
from features.stream.screen import Block, Screen
from features.stream.tail import TailIds
from features.stream.versions import is_retired, missing

STORAGE = (Unavailable, Conflict, DamagedData, NotFound, OSError, MemoryError)
"""Errors that say nothing about an event: the same may work later."""

_BEGINNING = -(1 << 63)
_log = logging.getLogger("tondo.stream")


class StreamProcessor:
    """Carries one partition of a source's stream; nobody else may, while it does.

    ``views`` are those that read the source; ``future_tolerance`` is µs. After an error of the
    storage it goes on from its checkpoint. Raises DefinitionError for a source that cannot be
    streamed, and what log, checkpoint, store and lake raise.
    """

    def __init__(
        self,
        source: Source,
        views: Sequence[FeatureView],
        partition: int,
        *,
        log: EventLog,
        checkpoint: Checkpoint,
        store: OnlineStore,
        lake: Lake,
        future_tolerance: int = DAY,
    ) -> None:
        self._source = source
        self._partition = partition
        self._log = log
        self._checkpoint = checkpoint
        self._store = store
        self._algebras = {view_id(view): ViewAlgebra(view) for view in views}
        self._tail_ids = TailIds(lake, source)
        self._quarantined: dict[int, str] = {}
        self._screen = Screen(
            source, partition, tolerance=future_tolerance, quarantined=self._quarantined
        )
        self._lander = Lander(source, partition, lake, self._judged_at)
        self._hopeless: set[Version] = set()
        self._load()
        self._landed = self._lander.marked(saved_landed(checkpoint))
        self.flush()

    @property
    def offset(self) -> int:
        """Every event before it has been read."""
        return self._tally.offset

    def step(self, limit: int = BLOCK) -> int:
        """Reads on, at most ``limit`` events, and returns how many there were."""
        self._recover()
        events = self._log.read(self._partition, self.offset, limit)
        if events and not self._done(lambda: self._take(events)):
            self._take_carefully(events[-1].offset + 1)
        return len(events)

    def flush(self, through: int | None = None) -> None:
        """Makes everything that was read visible online, and remembers it.

        ``through``: everything that is ever available before it (UTC µs) has been read.
        """
        self._recover()
        end = self.offset
        if not self._done(lambda: self._flush(through)):
            self._take_carefully(end)
            self._flush(through)

    def catch_up(self, offset: int, through: int) -> int:
        """Reads every event before an offset, flushes, and returns the offset it stands at.

        Raises NotFound if the log does not have them.
        """
        self._recover()
        while self.offset < offset:
            if not self.step(min(BLOCK, offset - self.offset)):
                raise NotFound(
                    f"{self._source.stream}/{self._partition} has no event {offset - 1}",
                    f"it ends at {self._log.end(self._partition)}",
                )
        self.flush(through)
        return self.offset

    def land(self) -> int:
        """Brings what was read into the lake and returns the rows that are new in the table."""
        self.flush()
        landed, rows = self._lander.land(self._landed, self.offset)
        if landed != self._landed:
            self._checkpoint.save(self.offset, {}, landed_meta(landed))
            self._landed = landed
        return rows

    def start_head(self, version: Version) -> None:
        """Fills a version's head with what became available from its cut on; again is nothing.

        Raises NotFound for a view that this processor does not have.
        """
        if version.view not in self._algebras:
            raise NotFound(
                f"the stream {self._source.stream} does not feed {version.view}",
                "apply the view's definition first",
            )
        self._recover()
        if version not in self._generations and self._partition < version.partitions:
            self._forget_tries(version)
            self._generations[version] = self._built(version)
        self.flush()

    def stats(self) -> dict[str, Any]:
        """Counts since the beginning of the log, and how far everything is; times are UTC µs."""
        self._recover()
        return {
            "stream": self._source.stream,
            "partition": self._partition,
            "read": self._tally.read,
            **self._tally.outcomes,
            "offset": self.offset,
            "landed": self._landed.whole,
            "newest": self._tally.newest,
            "generations": [g.progress.to_data() for g in self._generations.values()],
        }

    def close(self) -> None:
        """Lets somebody else carry the partition."""
        self._checkpoint.close()

    def _load(self) -> None:
        """Stands where the checkpoint is; what was not flushed is forgotten, and read again."""
        self._is_lost = True
        checkpoint = self._checkpoint
        self._tally = saved_tally(checkpoint, self._log.offset_at(self._partition, _BEGINNING))
        self._ids = SeenIds(checkpoint)
        self._quarantined.clear()
        self._quarantined |= saved_quarantine(checkpoint)
        self._quarantined_now: dict[int, str] = {}
        self._generations = {
            progress.version: self._generation(progress)
            for progress in saved_progress(checkpoint)
            if progress.version.view in self._algebras
        }
        self._saved: Any = None
        self._is_lost = False

    def _recover(self) -> None:
        if self._is_lost:
            self._load()

    def _generation(self, progress: Progress) -> Generation:
        version = progress.version
        excluded = self._tail_ids(version)
        return Generation(progress, self._algebras[version.view], self._checkpoint, excluded)

    def _done(self, work: Callable[[], None]) -> bool:
        """False if an event cannot be computed; then it was as if nothing had been read."""
        try:
            work()
        except STORAGE:
            self._is_lost = True
            raise
        except Exception as error:
            place = f"{self._source.stream}/{self._partition}"
            _log.warning("an event of %s cannot be computed", place, exc_info=error)
            self._load()
            return False
        return True

    def _take(self, events: Sequence[Event]) -> None:
        block = self._judged(events)
        accepted = block.accepted
        for view, algebra in self._algebras.items():
            rows = list(algebra.rows(accepted))
            for generation in self._of(view):
                own = generation.own(block, accepted)
                generation.add(rows if own is accepted else list(algebra.rows(own)), own)
        self._tally.add(block)

    def _take_carefully(self, end: int) -> None:
        """Reads on to an offset, event by event; one that cannot be computed becomes malformed."""
        try:
            while self.offset < end:
                limit = min(BLOCK, end - self.offset)
                for event in self._log.read(self._partition, self.offset, limit):
                    self._take_one(event)
        except Exception:
            self._is_lost = True
            raise

    def _take_one(self, event: Event) -> None:
        block = self._judged([event])
        try:
            taken = self._tried(block)
        except STORAGE:
            raise
        except Exception as error:
            self._ids.disclaim(block)
            self._quarantined[event.offset] = self._quarantined_now[event.offset] = why(error)
            block, taken = self._judged([event]), []
        for generation, states, own in taken:
            generation.put(states, own)
        self._tally.add(block)

    def _tried(self, block: Block) -> list[tuple[Generation, Any, Any]]:
        """What the event of a block would come to, by generation; raises what taking it would."""
        accepted = block.accepted
        found = []
        for view, algebra in self._algebras.items():
            list(algebra.rows(accepted))
            for generation in self._of(view):
                own = generation.own(block, accepted)
                found.append((generation, generation.tried(list(algebra.rows(own))), own))
        return found

    def _of(self, view: str) -> list[Generation]:
        return [g for version, g in self._generations.items() if version.view == view]

    def _judged(self, events: Sequence[Event]) -> Block:
        """Events with what becomes of them, duplicates included."""
        block = self._screen(events)
        name = self._source.event_id
        return (
            block if name is None else self._ids.judge(block, id_digests(block.events.column(name)))
        )

    def _judged_at(self, offset: int, limit: int) -> Block | None:
        events = self._log.read(self._partition, offset, limit)
        return self._judged(events) if events else None

    def _flush(self, through: int | None) -> None:
        self._reconcile()
        known = [time for time in (through, self._tally.newest) if time is not None]
        for generation in self._generations.values():
            generation.see_through(max([generation.version.cut, *known]))
        generations = list(self._generations.values())
        meta = flush_meta(self._tally, [g.progress for g in generations])
        if self._saved == (self.offset, meta):
            return
        # All of them first: what cannot be packed must not have moved the head of another view.
        settled = [(g, g.settled()) for g in generations]
        for generation, written in settled:
            head = generation.head(self.offset)
            self._store.write_head(generation.version, self._partition, written.cells, head)
        changes: dict[str, Any] = {g.space: written.states for g, written in settled}
        changes[IDS] = self._ids.changes()
        changes[QUARANTINE] = quarantine_changes(self._quarantined_now)
        self._checkpoint.save(self.offset, changes, meta)
        self._ids.saved()
        self._quarantined_now.clear()
        for generation in generations:
            generation.saved()
        self._saved = (self.offset, meta)
        self._drop_others()

    def _reconcile(self) -> None:
        """Heads for what the store has published, and none for what it has no more."""
        for view in self._algebras:
            published = self._store.versions(view)
            for generation in self._of(view):
                if generation.version in published:
                    generation.see_published()
                if is_retired(generation.progress, published):
                    del self._generations[generation.version]
            for version in missing(published, self._generations, self._partition):
                if version not in self._hopeless:
                    self._build_if_possible(version)

    def _build_if_possible(self, version: Version) -> None:
        """A head that cannot be filled holds up no other; one that never can is not tried again."""
        try:
            self._generations[version] = self._built(version)
        except TondoError as error:
            if not isinstance(error, Unavailable):
                self._hopeless.add(version)
            _log.error("no head of %s, version %s", version.view, version.number, exc_info=error)

    def _built(self, version: Version) -> Generation:
        # What an older life of the same version left must not be counted once more.
        self._checkpoint.drop(space_of(version))
        start = self._log.offset_at(self._partition, version.cut)
        progress = Progress(version, None, version.cut)
        try:
            return filled(self._generation(progress), self._blocks(start, BLOCK))
        except STORAGE:
            raise
        except Exception:
            one_by_one = self._blocks(start, 1)
            return filled_carefully(self._generation(progress), one_by_one, STORAGE)

    def _blocks(self, start: int, limit: int) -> Iterator[Block]:
        """What was read already, judged again, from an offset on."""
        while start < self.offset:
            block = self._judged_at(start, min(limit, self.offset - start))
            if block is None:
                return
            yield block
            start = block.end

    def _forget_tries(self, version: Version) -> None:
        """Drops what a failed try at the same number began."""
        for generation in self._of(version.view):
            known = generation.progress
            if known.version.number == version.number and not known.published:
                del self._generations[known.version]

    def _drop_others(self) -> None:
        """Removes the states of generations that are no more, once they are forgotten."""
        wanted = {IDS, QUARANTINE, *(g.space for g in self._generations.values())}
        for space in self._checkpoint.spaces():
            if space not in wanted:
                self._checkpoint.drop(space)
        self._tail_ids.keep(set(self._generations))
