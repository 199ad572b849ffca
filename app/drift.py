"""The monitor job: features of a window against the champion's training reference.

The window's features come from a point-in-time join of its spine, the same that made the training
set, so that the two differ only in what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from app.compose import Platform
from app.control.resources import Stored
from app.control.retraining import (
    Decision,
    DriftEvidence,
    Hold,
    Retrain,
    RetrainingPolicy,
    decide,
)
from app.control.specs import MonitorSpec, RuleSpec
from app.errors import BadInput
from app.moments import written
from app.training_jobs import CHAMPION, Asked, model_file
from features.naming import did_you_mean
from features.offline.join import join_table
from features.offline.lake import Condition, Lake
from serving.monitoring import DriftPolicy, DriftReport, FeatureDrift, Histogram, histogram_of
from serving.monitoring import check as compare
from training.package import Bins, Package, load_package
from training.package.columns import as_floats

Advance = Callable[[str, int, int], None]
Data = dict[str, Any]
Window = tuple[int, int]
"""From and until in UTC µs; the end does not belong."""
SCORE = "score"
"""What the model's own score is called among the columns of a monitor."""


@dataclass(frozen=True, slots=True)
class DriftFound:
    """What a monitor found: ``rows`` of the window compared with a champion's training rows."""

    monitor: str
    family: str
    version: int
    window: Window
    rows: int
    report: DriftReport

    @property
    def evidence(self) -> DriftEvidence:
        """As the retraining policy reads it."""
        drifted = tuple(feature.feature for feature in self.report.drifted)
        return DriftEvidence(len(self.report.features), drifted)

    def data(self) -> Data:
        """JSON-able data, most moved columns first."""
        start, end = self.window
        return {
            "monitor": self.monitor,
            "family": self.family,
            "version": self.version,
            "from": written(start),
            "until": written(end),
            "rows": self.rows,
            "compared": self.evidence.compared,
            "drifted": list(self.evidence.drifted),
            "skipped": list(self.report.skipped),
            "columns": [_column(feature) for feature in self.report.features],
        }


def check_drift(platform: Platform, monitor: str, window: Window, advance: Advance) -> DriftFound:
    """Joins the window's features and compares them, and their score, with the champion's.

    Raises NotFound without such a monitor or a champion, BadInput for a column that there is not.
    """
    with platform.catalog() as catalog:
        spec = MonitorSpec.model_validate(catalog.get("Monitor", monitor).resource.spec)
    with platform.gallery() as gallery:
        champion = gallery.get(spec.family, CHAMPION)
    package = load_package(platform.artifacts().path(champion.digest), champion.digest)
    advance("join", 0, 2)
    rows = _joined(platform, package, spec.family, window)
    advance("compare", 1, 2)
    report = compare_rows(package, rows, spec)
    advance("done", 2, 2)
    return DriftFound(monitor, spec.family, champion.version, window, rows.num_rows, report)


def compare_rows(package: Package, rows: pa.Table, spec: MonitorSpec) -> DriftReport:
    """Compares rows of service outputs with what the package learned from.

    Raises BadInput for a pattern of the monitor that names no column.
    """
    baseline = package.baseline()
    known = {name: histogram(bins) for name, bins in baseline.features.items()}
    known[SCORE] = histogram(baseline.score)
    reference = {name: known[name] for name in chosen_columns(spec.columns, known)}
    edges = {name: reference[name].edges for name in reference}
    window = {name: histogram_of(_values(package, rows, name), edges[name]) for name in reference}
    policy = DriftPolicy(alpha=spec.alpha, psi_floor=spec.min_effect, min_rows=spec.min_rows)
    return compare(reference, window, policy)


def chosen_columns(patterns: Sequence[str], known: Iterable[str]) -> list[str]:
    """The columns that patterns name (``*``, ``view:*``, ``view:feature``), in their own order."""
    names = list(known)
    wanted = {pattern.replace(":", "__") for pattern in patterns}
    for pattern in sorted(wanted):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadInput(
                f"the monitor watches {pattern!r}, which is no numeric column of the service",
                did_you_mean(pattern, names, "columns"),
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in wanted)]


def histogram(bins: Bins) -> Histogram:
    """A package's bins as a histogram that others are compared with."""
    return Histogram(bins.edges, bins.counts, bins.missing)


def rules_on(stored: Iterable[Stored], monitor: str) -> dict[str, RuleSpec]:
    """The rules that follow from a monitor, by name."""
    rules = {s.resource.name: s.resource.spec for s in stored if s.resource.kind == "Rule"}
    specs = {name: RuleSpec.model_validate(spec) for name, spec in rules.items()}
    return {name: spec for name, spec in sorted(specs.items()) if spec.given == monitor}


def decide_by(platform: Platform, found: DriftFound) -> dict[str, Decision]:
    """What each rule on the monitor says now, by the rule's name."""
    with platform.catalog() as catalog:
        stored = catalog.list()
    now = platform.clock.now()
    rules = rules_on(stored, found.monitor)
    return {n: apply_rule(spec, found, began(stored, n), now) for n, spec in rules.items()}


def apply_rule(rule: RuleSpec, found: DriftFound, earlier: Sequence[int], now: int) -> Decision:
    """What a rule makes of a finding, given when the runs that it asked for began (UTC µs)."""
    policy = RetrainingPolicy(
        min_share=rule.min_share,
        cool_down=rule.cool_down,
        budget=rule.budget,
        window=rule.budget_window,
    )
    decision = decide(found.evidence, earlier, policy, now)
    if isinstance(decision, Retrain) and rule.then != "retrain":
        return Hold(f"{decision.why}; the rule only alerts")
    if isinstance(decision, Retrain) and rule.dry_run:
        return Hold(f"{decision.why}; a dry run trains nothing")
    return decision


def because(rule: str, decision: Decision) -> str:
    """The reason that a run of a rule has on its record."""
    return f"{_by(rule)}{decision.why}"


def began(stored: Iterable[Stored], rule: str) -> list[int]:
    """When the runs that a rule asked for began (UTC µs)."""
    runs = [each for each in stored if each.resource.kind == "Run"]
    return [run.created_at for run in runs if _why(run.resource.spec).startswith(_by(rule))]


def _by(rule: str) -> str:
    return f"Rule/{rule}: "


def _why(spec: Mapping[str, Any]) -> str:
    return str(spec.get("why", ""))


def _joined(platform: Platform, package: Package, family: str, window: Window) -> pa.Table:
    """The window's spine with the features that the champion reads."""
    from app.project import load_model
    from training.spine import build_spine, spine_columns

    model, lake = load_model(model_file(platform, Asked(family, {}))), platform.lake()
    plan = package.plan
    columns = spine_columns(model, [plan])
    table = _scanned(lake, model.spine.table, columns, model.spine.time, window)
    spine = build_spine(model, table, [plan])
    return join_table(plan, lake, spine, time_column=model.spine.time)


def _scanned(lake: Lake, table: str, columns: list[str], time: str, window: Window) -> pa.Table:
    start, end = window
    between = (Condition(time, ">=", start), Condition(time, "<", end))
    return lake.scan(table, columns=columns, where=between)


def _values(package: Package, rows: pa.Table, name: str) -> Any:
    if name == SCORE:
        return package.open_runtime().predict(package.prepare_table(rows))
    return as_floats(rows.column(name))


def _column(feature: FeatureDrift) -> Data:
    return {
        "column": feature.feature,
        "drifted": feature.drifted,
        "psi": feature.psi,
        "psiThreshold": feature.psi_threshold,
        "missing": feature.missing,
        "missingReference": feature.missing_reference,
        "rows": feature.rows,
    }
