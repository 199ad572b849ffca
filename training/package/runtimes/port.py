"""What computes scores, whatever made the model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Runtime(Protocol):
    """A loaded model; threads may share it, and it computes on the calling thread alone."""

    def predict(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """One score a row of a float32 matrix of shape (rows, columns); NaN is missing."""
        ...

    def close(self) -> None:
        """Frees the model; nothing is predicted afterwards."""
        ...
