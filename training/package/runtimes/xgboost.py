"""XGBoost itself: for models that do not convert exactly, and to check those that do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import xgboost


class XGBoostRuntime:
    """Implements Runtime over one ``model.ubj``, on a single thread.

    A damaged file can kill the process in XGBoost's parser: verify the digest first.
    """

    def __init__(self, path: Path) -> None:
        self._booster = xgboost.Booster({"nthread": 1}, model_file=path)
        self._booster.set_param({"nthread": 1})

    def predict(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """One score a row; see Runtime."""
        scores = self._booster.inplace_predict(matrix, missing=np.nan, validate_features=False)
        return np.asarray(scores, dtype=np.float64)

    def close(self) -> None:
        """Frees the booster."""
        del self._booster
