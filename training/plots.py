"""The picture of an evaluation: ROC and calibration side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.evaluation import Curves

_INK, _GRID = "#1f2933", "#d9dee5"
_COLOURS = ("#b4431f", "#52708f", "#8a8d3f", "#7a5c94")


def plot_evaluation(path: Path, title: str, models: Sequence[tuple[Curves, float | None]]) -> Path:
    """Writes a PNG; ``models`` are curves with their AUC, the model itself first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=14, fontweight="bold", color=_INK)
    for axes in (left, right):
        _dress(axes)
    for colour, (curves, auc) in zip(_cycle(len(models)), models, strict=True):
        _draw_roc(left, curves, auc, colour)
        _draw_calibration(right, curves, colour)
    _label(left, "ROC", "false positive rate", "true positive rate", 1.0)
    _label(right, "Calibration", "promised probability", "observed rate", _reach(models))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return path


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _dress(axes: Any) -> None:
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_roc(axes: Any, curves: Curves, auc: float | None, colour: str) -> None:
    shown = "undefined" if auc is None else f"{auc:.3f}"
    axes.plot(
        curves.false_positive,
        curves.true_positive,
        color=colour,
        linewidth=2.2,
        label=f"{curves.name}  (AUC {shown})",
    )


def _draw_calibration(axes: Any, curves: Curves, colour: str) -> None:
    promised = [b.promised for b in curves.calibration]
    observed = [b.observed for b in curves.calibration]
    axes.plot(
        promised, observed, color=colour, linewidth=2, marker="o", markersize=5, label=curves.name
    )


def _label(axes: Any, title: str, x: str, y: str, reach: float) -> None:
    axes.plot([0, reach], [0, reach], color="#9aa5b1", linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, reach)
    axes.set_ylim(0, reach)
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=12, color=_INK, loc="left")
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.legend(frameon=False, fontsize=9, loc="lower right", labelcolor=_INK)


def _reach(models: Sequence[tuple[Curves, float | None]]) -> float:
    """The upper end of the calibration axes: enough room for the highest bin."""
    highest = max(max(b.promised, b.observed) for c, _ in models for b in c.calibration)
    return min(1.0, highest * 1.15 + 0.02)
