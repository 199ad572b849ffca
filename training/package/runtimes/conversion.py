"""XGBoost to ONNX. What comes out is not to be trusted before the parity gate has compared it."""

from __future__ import annotations

from pathlib import Path

import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

_TARGET_OPSET = 15


def convert_to_onnx(native: Path, onnx: Path, columns: int) -> None:
    """Writes the ONNX form of ``model.ubj``; raises whatever the converter does not like.

    The model must have no feature names of its own and be cut to its best round beforehand.
    """
    booster = xgboost.Booster(model_file=native)
    shape = [("features", FloatTensorType([None, columns]))]
    converted = onnxmltools.convert_xgboost(
        booster, name="model", initial_types=shape, target_opset=_TARGET_OPSET
    )
    onnx.write_bytes(converted.SerializeToString())
