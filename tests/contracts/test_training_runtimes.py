"""Every runtime keeps the same promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xgboost

from features.errors import DamagedData
from training.package import Runtime, open_runtime
from training.package.runtimes.conversion import convert_to_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    random = np.random.default_rng(0)
    matrix = random.normal(size=(500, 4)).astype(np.float32)
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    label = (np.nan_to_num(matrix[:, 0]) > 0).astype(float)
    rows = xgboost.DMatrix(matrix, label=label)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, 10)
    booster.save_model(place / "model.ubj")
    convert_to_onnx(place / "model.ubj", place / "model.onnx", 4)
    return place


@pytest.fixture(params=["onnx", "xgboost"])
def runtime(request: pytest.FixtureRequest, folder: Path) -> Runtime:
    return open_runtime(request.param, folder)


MATRIX = np.array([[1, np.nan, 0, -1], [np.nan] * 4, [-2, 0, 3e38, 1]], dtype=np.float32)


def test_scores_are_one_float64_a_row(runtime: Runtime) -> None:
    """A matrix of n rows gives n probabilities as float64, missing values included."""
    scores = runtime.predict(MATRIX)
    assert scores.shape == (3,)
    assert scores.dtype == np.dtype(np.float64)
    assert ((scores > 0) & (scores < 1)).all()


def test_no_rows_give_no_scores(runtime: Runtime) -> None:
    """An empty matrix is answered with an empty vector."""
    assert runtime.predict(np.empty((0, 4), dtype=np.float32)).shape == (0,)


def test_a_row_scores_alike_alone_and_in_company(runtime: Runtime) -> None:
    """A row's score does not depend on the rows beside it."""
    together = runtime.predict(MATRIX)
    alone = [runtime.predict(MATRIX[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(together, alone)


def test_threads_may_share_a_runtime(runtime: Runtime) -> None:
    """Threads that predict at once get what one would get."""
    expected = runtime.predict(MATRIX)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: runtime.predict(MATRIX), range(50)):
            np.testing.assert_array_equal(scores, expected)


def test_runtimes_agree(folder: Path) -> None:
    """Both runtimes of one model give the same scores."""
    onnx, native = (open_runtime(kind, folder).predict(MATRIX) for kind in ("onnx", "xgboost"))
    np.testing.assert_allclose(onnx, native, atol=1e-6)


def test_a_closed_runtime_is_gone(runtime: Runtime) -> None:
    """Closing frees the model."""
    runtime.close()
    with pytest.raises(AttributeError):
        runtime.predict(MATRIX)


def test_a_runtime_that_is_not_there_is_damaged_data(folder: Path, tmp_path: Path) -> None:
    """A missing file and an unknown kind are errors with a hint."""
    for kind, place in (("onnx", tmp_path), ("xgboost", tmp_path), ("torch", folder)):
        with pytest.raises(DamagedData):
            open_runtime(kind, place)
