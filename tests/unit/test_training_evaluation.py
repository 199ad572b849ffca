"""Metrics, gates and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import scores
from training.canvas import Gates
from training.evaluation import Curves
from training.package import bins_of
from training.plots import plot_evaluation
from training.promotion import Hold, Promote, decide
from training.scores import CalibrationBin

GATES = Gates(min_primary=0.7, max_loss=0.01, max_calibration_error=0.05)


def test_auc_of_known_cases() -> None:
    """Perfect order is 1, reversed 0, all ties a half, one class undefined."""
    label = np.array([0.0, 0, 1, 1])
    assert scores.auc(label, np.array([0.1, 0.2, 0.3, 0.4])) == 1
    assert scores.auc(label, np.array([0.4, 0.3, 0.2, 0.1])) == 0
    assert scores.auc(label, np.full(4, 0.5)) == 0.5
    assert scores.auc(np.ones(4), label) is None


def test_losses_of_known_cases() -> None:
    """Log loss and Brier score by hand; a sure mistake costs much, not infinity."""
    label, score = np.array([1.0, 0.0]), np.array([0.8, 0.4])
    assert scores.log_loss(label, score) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert scores.brier(label, score) == pytest.approx((0.04 + 0.16) / 2)
    assert np.isfinite(scores.log_loss(label, 1 - label))


def test_a_calibrated_score_has_no_calibration_error() -> None:
    """Scores equal to the observed rates have error 0; shifted by 0.1 they have 0.1."""
    label = np.tile([0.0, 1.0], 500)
    assert scores.calibration_error(scores.calibration(label, np.full(1_000, 0.5))) == 0
    shifted = scores.calibration(label, np.full(1_000, 0.6))
    assert scores.calibration_error(shifted) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("candidate", "champion", "expected"),
    [
        ({"auc": 0.8, "calibration_error": 0.01}, None, Promote),
        ({"auc": 0.8, "calibration_error": 0.01}, {"auc": 0.805}, Promote),
        ({"auc": 0.8, "calibration_error": 0.01}, {"auc": 0.82}, Hold),
        ({"auc": 0.69, "calibration_error": 0.01}, None, Hold),
        ({"auc": 0.8, "calibration_error": 0.06}, None, Hold),
        ({"auc": 0.8}, None, Hold),
        ({"auc": None}, None, Hold),
        ({"auc": 0.8, "calibration_error": 0.01}, {"auc": None}, Promote),
    ],
)
def test_gates_decide(
    candidate: dict[str, float | None],
    champion: dict[str, float | None] | None,
    expected: type[Promote] | type[Hold],
) -> None:
    """A candidate passes only if every gate holds, and the reason names the numbers."""
    decision = decide(candidate, champion, GATES, "auc")
    assert isinstance(decision, expected)
    assert "auc" in decision.why or "calibration" in decision.why


def test_a_loss_must_not_grow() -> None:
    """For a metric of which less is better the comparison turns round."""
    gates = Gates(max_loss=0.1)
    assert isinstance(decide({"rmse": 5.2}, {"rmse": 5.0}, gates, "rmse"), Hold)
    assert isinstance(decide({"rmse": 4.0}, {"rmse": 5.0}, gates, "rmse"), Promote)


def test_reference_bins_are_deciles_without_empty_ones() -> None:
    """A smooth reference has ten equal bins, a lumpy one fewer, missing values apart."""
    assert bins_of(np.arange(1_000.0)).counts == (100,) * 10
    lumpy = bins_of(np.array([0.0] * 95 + [1.0] * 5 + [np.nan] * 10))
    assert (lumpy.edges, lumpy.counts, lumpy.missing) == ((0.0,), (95, 5), 10)
    assert lumpy.missing_rate == pytest.approx(10 / 110)
    assert bins_of([]).counts == bins_of([np.nan]).counts == (0,)


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    """The plot of two models is a PNG of a readable size."""
    bins = (CalibrationBin(0.1, 0.12, 50), CalibrationBin(0.4, 0.35, 50))
    curves = Curves("late", (0.0, 0.2, 1.0), (0.0, 0.7, 1.0), bins)
    path = plot_evaluation(tmp_path / "x.png", "late:1", [(curves, 0.8), (curves, None)])
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") >= 1_200
