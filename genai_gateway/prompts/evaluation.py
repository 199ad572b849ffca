"""Versions of a prompt on the same cases: scores with intervals, and whether one is better."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genai_gateway.errors import GatewayError
from genai_gateway.prompts.grading import Ask, Grader
from genai_gateway.prompts.template import PromptTemplate

_RESAMPLES = 2_000
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Score:
    """What one version scored. The interval is of 95 %; ``failed`` cases count as 0."""

    version: str
    scores: tuple[float, ...]
    failed: int

    @property
    def mean(self) -> float:
        """The mean score."""
        return sum(self.scores) / len(self.scores)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the mean: honest for few cases, and for scores near 0 or 1."""
        n, p = len(self.scores), self.mean
        spread = _Z95 * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
        middle, scale = p + _Z95**2 / (2 * n), 1 + _Z95**2 / n
        return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two versions on the same cases, by a paired bootstrap of 95 %."""

    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``undecided`` while the interval holds 0."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"


async def evaluate(
    template: PromptTemplate,
    cases: Sequence[Mapping[str, Any]],
    grader: Grader,
    ask: Ask,
    at_once: int = 8,
) -> Score:
    """Fills, asks and grades every case; ``ask`` sends a chat body and returns the words."""
    gate = asyncio.Semaphore(at_once)
    failed = 0

    async def one(case: Mapping[str, Any]) -> float:
        nonlocal failed
        async with gate:
            try:
                answer = await ask(template.fill(case["variables"]))
                return await grader.grade(dict(case), answer)
            except GatewayError:
                failed += 1
                return 0.0

    scores = await asyncio.gather(*(one(case) for case in cases))
    return Score(f"{template.name}@{template.version}", tuple(scores), failed)


def compare(candidate: Score, champion: Score, seed: int = 0) -> Comparison:
    """The candidate against the champion, case by case. Both must have scored the same cases."""
    pairs = zip(candidate.scores, champion.scores, strict=True)
    differences = [mine - other for mine, other in pairs]
    chance, n = random.Random(seed), len(differences)
    means = sorted(sum(chance.choices(differences, k=n)) / n for _ in range(_RESAMPLES))
    low, high = means[int(_RESAMPLES * 0.025)], means[int(_RESAMPLES * 0.975) - 1]
    return Comparison(sum(differences) / n, low, high)
