"""Runtimes: one port, an implementation for each format a package may hold."""

from __future__ import annotations

from pathlib import Path

from features.errors import DamagedData
from training.package.runtimes.port import Runtime

FILES = {"onnx": "model.onnx", "xgboost": "model.ubj"}
"""The file each runtime reads."""


def open_runtime(kind: str, folder: Path) -> Runtime:
    """The runtime of that kind over a verified package folder; loads only the library it needs.

    Raises DamagedData if the library refuses the file or the kind is unknown.
    """
    try:
        return _open(kind, folder / FILES[kind])
    except Exception as error:
        why = str(error).strip().partition("\n")[0]
        raise DamagedData(
            f"{kind} could not load the model: {why}", "Train or package it again."
        ) from error


def _open(kind: str, path: Path) -> Runtime:
    if kind == "onnx":
        from training.package.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path)
    from training.package.runtimes.xgboost import XGBoostRuntime

    return XGBoostRuntime(path)


__all__ = ["FILES", "Runtime", "open_runtime"]
