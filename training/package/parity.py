"""The gate between a converted model and production: it predicts what the native one predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.errors import TondoError
from training.package.columns import Matrix
from training.package.manifest import Parity
from training.package.runtimes import FILES, open_runtime

TOLERANCE = 1e-6
_HARD_ROWS = 256


def decide_parity(folder: Path, samples: Matrix) -> Parity:
    """Converts ``model.ubj`` and compares both on samples made harder; removes what differs."""
    onnx = folder / FILES["onnx"]
    try:
        _convert(folder, samples.shape[1])
        parity = _compare(folder, hardened(samples))
    except Exception as error:
        what = error.what if isinstance(error, TondoError) else str(error)
        parity = Parity("xgboost", 0, None, f"it does not convert: {what.splitlines()[0]}")
    if parity.served != "onnx":
        onnx.unlink(missing_ok=True)
    return parity


def difference(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """The largest difference of two score vectors, relative where scores exceed 1."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(a)), initial=0.0))


def hardened(samples: Matrix) -> Matrix:
    """The samples, and as many rows again of missing, extreme and mixed-up values."""
    random = np.random.default_rng(0)
    rows = np.resize(samples, (_HARD_ROWS, samples.shape[1])).copy()
    for column in rows.T:
        random.shuffle(column)
    rows[random.random(rows.shape) < 0.2] = np.nan
    extremes = np.array([np.nan, 0.0, -1.0, 1.0, 3e38, -3e38], dtype=np.float32)
    constant = np.repeat(extremes[:, None], samples.shape[1], axis=1)
    return np.concatenate([samples, rows, constant])


def _convert(folder: Path, columns: int) -> None:
    from training.package.runtimes.conversion import convert_to_onnx

    convert_to_onnx(folder / FILES["xgboost"], folder / FILES["onnx"], columns)


def _compare(folder: Path, matrix: Matrix) -> Parity:
    native = open_runtime("xgboost", folder).predict(matrix)
    largest = difference(native, open_runtime("onnx", folder).predict(matrix))
    if largest <= TOLERANCE:
        return Parity("onnx", len(matrix), largest)
    shown = largest if np.isfinite(largest) else None
    return Parity("xgboost", len(matrix), shown, f"ONNX differs by {largest:.2g}")
