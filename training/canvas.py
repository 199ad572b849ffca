"""Canvas: a model as code. Making one runs nothing; ``training.run`` runs it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from features.errors import DefinitionError
from features.expressions import Expr, micros

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.evaluation import Evaluation
    from training.package import Package
    from training.steps import RunContext
    from training.trainers.port import FittedModel

Prepare = Callable[["RunContext"], "Dataset"]
Train = Callable[["RunContext", "Dataset"], "FittedModel"]
Assemble = Callable[["RunContext", "Dataset", "FittedModel"], "Package"]
Evaluate = Callable[["RunContext", "Dataset", "Package"], "Evaluation"]
Period = tuple[datetime | int, datetime | int]

_FAMILY = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_SETTINGS = ("rounds", "early_stopping", "report_every", "seed")
_ENDS = ("train_until", "validate_until", "test_until")


@dataclass(frozen=True, slots=True, eq=False)
class Spine:
    """The rows to learn from: a lake table with keys, time and label.

    ``label`` is a column or an expression over the table's columns, a number or a bool; a row
    without a label is left out, and so is one for which ``where`` is not true.
    """

    table: str
    time: str
    label: Expr | str
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Three periods ``[from, to)`` of the spine's time, as zoned datetimes or UTC µs.

    Later is never used to learn about earlier: train ends before validate begins, that before test.
    """

    train: Period
    validate: Period
    test: Period

    def __post_init__(self) -> None:
        edges = [_micros(moment) for period in self.periods().values() for moment in period]
        if any(late < early for early, late in itertools.pairwise(edges)):
            raise DefinitionError(
                "the periods of a time split overlap or run backwards",
                "Give train, validate and test in order of time; each ends where the next begins.",
            )

    def periods(self) -> dict[str, Period]:
        """The three periods by name, in order."""
        return {"train": self.train, "validate": self.validate, "test": self.test}

    def bounds(self) -> dict[str, tuple[int, int]]:
        """The three periods by name, in UTC µs."""
        return {name: (_micros(a), _micros(b)) for name, (a, b) in self.periods().items()}

    def ends(self) -> dict[str, int]:
        """The ends of the periods in UTC µs, under the names that ``ending`` takes."""
        return dict(zip(_ENDS, (end for _, end in self.bounds().values()), strict=True))

    def ending(
        self,
        train_until: datetime | int | None = None,
        validate_until: datetime | int | None = None,
        test_until: datetime | int | None = None,
    ) -> TimeSplit:
        """The split with other ends; the period after one that was moved begins at its new end."""
        return TimeSplit(
            train=(self.train[0], _first(train_until, self.train[1])),
            validate=(
                _first(train_until, self.validate[0]),
                _first(validate_until, self.validate[1]),
            ),
            test=(_first(validate_until, self.test[0]), _first(test_until, self.test[1])),
        )


def _micros(moment: datetime | int) -> int:
    return moment if isinstance(moment, int) else micros(moment)


def _first(moment: datetime | int | None, otherwise: datetime | int) -> datetime | int:
    return otherwise if moment is None else moment


def _names(value: Any) -> tuple[str, ...]:
    """Names as they are given on a command line."""
    text = "" if value in (None, False, "none") else str(value)
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _moment(name: str, value: Any) -> datetime | int:
    """A moment as it is given on a command line: UTC µs, or RFC 3339 with its zone."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if isinstance(moment, bool) or not isinstance(moment, (datetime, int)):
        raise DefinitionError(
            f"{name}={value} is not a moment", "Write for example 2013-11-01T00:00:00-04:00."
        )
    return _micros(moment)


@dataclass(frozen=True, slots=True)
class Gates:
    """What a candidate must show on the test split before it may replace the champion.

    ``min_primary`` bounds the primary metric, ``max_loss`` how much worse than the champion it may
    be on the same rows, ``max_calibration_error`` the gap of promised and observed rates.
    """

    min_primary: float | None = None
    max_loss: float = 0.0
    max_calibration_error: float | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What training asks of the cluster: workers, and CPUs and GPUs of each."""

    workers: int = 1
    cpus: int = 1
    gpus: float = 0


@dataclass(frozen=True, slots=True, eq=False)
class CanvasModel:
    """How to make a model: data, service, columns, parameters, gates, and four steps.

    ``columns`` are expressions over the service's outputs (``ref("view:feature")``); without them
    every numeric output is a column. ``baselines`` are services to train on as well, for
    comparison. A step that is not given has its default (``training.steps``).
    """

    family: str
    service: str
    spine: Spine
    split: TimeSplit
    columns: Mapping[str, Expr] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 300
    early_stopping: int = 20
    report_every: int = 25
    seed: int = 0
    metric: str = "auc"
    gates: Gates = field(default_factory=Gates)
    segments: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    owner: str = ""
    description: str = ""
    expires_after: int | None = None
    prepare: Prepare | None = None
    train: Train | None = None
    assemble: Assemble | None = None
    evaluate: Evaluate | None = None

    def __post_init__(self) -> None:
        if not _FAMILY.fullmatch(self.family):
            raise DefinitionError(
                f"{self.family!r} is not a model family", "Use project.problem in lower case."
            )
        for name in ("rounds", "report_every"):
            if getattr(self, name) < 1:
                raise DefinitionError(f"{self.family}: {name} must be at least 1")
        metrics = ("auc", "logloss") if self.objective.startswith("binary:") else ("rmse", "mae")
        if self.metric not in metrics:
            raise DefinitionError(
                f"{self.family}: {self.metric!r} does not measure {self.objective}",
                f"Choose one of {', '.join(metrics)}.",
            )

    @property
    def objective(self) -> str:
        """What is being minimised, in XGBoost's words."""
        return str(self.parameters.get("objective", "binary:logistic"))

    def with_settings(self, settings: Mapping[str, Any]) -> CanvasModel:
        """The model with other rounds, seed and so on; any other name is a parameter.

        ``train_until``, ``validate_until`` and ``test_until`` move the ends of its split;
        ``baselines`` names others with commas between, or ``none``.
        """
        own: dict[str, Any]
        own = {name: int(value) for name, value in settings.items() if name in _SETTINGS}
        ends = {name: _moment(name, value) for name, value in settings.items() if name in _ENDS}
        if "baselines" in settings:
            own["baselines"] = _names(settings["baselines"])
        known = {*_SETTINGS, *_ENDS, "baselines"}
        others = {name: value for name, value in settings.items() if name not in known}
        split = self.split.ending(**ends)
        return replace(self, split=split, parameters={**self.parameters, **others}, **own)

    def settings(self) -> dict[str, Any]:
        """Everything that shapes the training, as data for the lineage."""
        own = {name: getattr(self, name) for name in _SETTINGS}
        return {**self.parameters, "objective": self.objective, **own, **self.split.ends()}
