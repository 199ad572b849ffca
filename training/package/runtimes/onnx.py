"""ONNX Runtime: the fast way to score a row or a thousand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

_FATAL_ONLY = 4


class OnnxRuntime:
    """Implements Runtime over one ``model.onnx``."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _FATAL_ONLY
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        # A classifier gives label and probabilities; a regressor gives its value alone.
        self._outputs = [self._session.get_outputs()[-1].name]
        self._run = self._session.run

    def predict(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """One score a row; see Runtime."""
        scores = self._run(self._outputs, {self._input: matrix})[0]
        return np.asarray(scores[:, -1], dtype=np.float64)

    def close(self) -> None:
        """Frees the session."""
        del self._run, self._session
