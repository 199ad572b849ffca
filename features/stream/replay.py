"""A head made from the log: everything from a version's cut to where the processor stands."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from features.stream.generation import Generation
from features.stream.screen import Block

_log = logging.getLogger("tondo.stream")
_SHOWN = 200


def filled(generation: Generation, blocks: Iterator[Block]) -> Generation:
    """The generation with the accepted events of these blocks; raises what evaluation raises."""
    for block in blocks:
        own = generation.own(block, block.accepted)
        generation.add(list(generation.algebra.rows(own)), own)
    return generation


def filled_carefully(
    generation: Generation, blocks: Iterator[Block], storage: tuple[type[BaseException], ...]
) -> Generation:
    """The same from blocks of one event each, less those that cannot be computed.

    They were accepted before this view was there, so they stay in the lake. What is in ``storage``
    says nothing about an event and is raised.
    """
    for block in blocks:
        own = generation.own(block, block.accepted)
        try:
            states = generation.tried(list(generation.algebra.rows(own)))
        except storage:
            raise
        except Exception as error:
            told = (generation.version.view, block.end - 1, why(error))
            _log.warning("left out of %s: event %s: %s", *told)
            continue
        generation.put(states, own)
    return generation


def why(error: Exception) -> str:
    """The reason that a dead letter gives for an event that cannot be computed."""
    text = f"cannot be computed: {type(error).__name__}: {error}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
