"""What was made: one immutable, numbered version of a model, and the moves of its aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from features.errors import BadInput

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FAMILY = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Metric:
    """One number about one version: of a split, and of a segment unless that is empty.

    ``value`` is None where the metric is undefined (AUC of a single class).
    """

    name: str
    value: float | None
    split: str = "test"
    segment: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from: code, data, features, parents and environment.

    ``snapshots`` maps lake tables to snapshot ids, ``features`` maps views to fingerprints.
    """

    run_id: str = ""
    code_digest: str = ""
    commit: str = ""
    dirty: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    training_set: str = ""
    snapshots: Mapping[str, int] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model family; ``version`` 0 is a draft that Gallery has not numbered yet.

    ``digest`` addresses the package, which holds the sample rows and the baseline histograms.
    ``inputs`` says what a request must carry, ``profile`` what a prediction costs.
    Times are UTC µs.
    """

    family: str
    digest: str
    service: str
    metrics: tuple[Metric, ...] = ()
    primary_metric: str = ""
    lineage: Lineage = field(default_factory=Lineage)
    framework: str = ""
    runtime: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, float] = field(default_factory=dict)
    owner: str = ""
    description: str = ""
    expires_at: int | None = None
    version: int = 0
    created_at: int = 0

    @property
    def name(self) -> str:
        """``family:version``."""
        return f"{self.family}:{self.version}"

    def metric(self, name: str, split: str = "test", segment: str = "") -> float | None:
        """The value of one metric, or None where it was not measured."""
        asked = (name, split, segment)
        return next(
            (m.value for m in self.metrics if (m.name, m.split, m.segment) == asked),
            None,
        )

    @property
    def primary(self) -> float | None:
        """The primary metric on the test split."""
        return self.metric(self.primary_metric)


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias; ``to`` None removed it, ``previous`` None set it first."""

    family: str
    alias: str
    to: int | None
    previous: int | None
    at: int
    actor: str = ""
    reason: str = ""


def check_draft(draft: ModelVersion) -> None:
    """Raises BadInput for a draft that Gallery cannot number."""
    if draft.version:
        raise BadInput(
            f"{draft.name} already has a number", "Gallery numbers versions: leave version at 0."
        )
    if not _FAMILY.fullmatch(draft.family):
        raise BadInput(
            f"{draft.family!r} is not a model family", "Use dotted lower case: project.problem."
        )
    if not _DIGEST.fullmatch(draft.digest):
        raise BadInput(
            f"{draft.family}: {draft.digest!r} is not a package digest",
            "Store the package first: 64 hex digits of SHA-256.",
        )


def check_alias(alias: str) -> None:
    """Raises BadInput for a name that could be taken for something else."""
    if not _ALIAS.fullmatch(alias):
        raise BadInput(
            f"{alias!r} is not an alias", "Use lower case letters, digits, - and _, a letter first."
        )
