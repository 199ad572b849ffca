"""A package answers as it did when it was made, or is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
import xgboost

from features import col, query_time, ref
from features.errors import BadInput, Conflict, DamagedData, DefinitionError, NotFound
from features.expressions import Expr
from training.package import (
    Package,
    PackageContent,
    bins_of,
    compile_rows,
    compile_table,
    load_package,
    matrix_columns,
    tree_digest,
    validate_in_child,
    write_package,
)
from training.package.samples import PREDICTION, rows_of
from training.testing import flights_frame, flights_plan

ROOT = Path(__file__).resolve().parents[2]
COLUMNS: dict[str, Expr] = {
    "mean_3h": ref("carrier_delay:mean_3h"),
    "to_boston": col("leg__dest") == "BOS",
    "evening": ref("leg:evening"),
    "pace": ref("leg:distance") / 100,
}


def make_package(folder: Path, parameters: dict[str, object] | None = None) -> Package:
    plan, frame = flights_plan(), flights_frame(1_500)
    columns = matrix_columns(plan, COLUMNS)
    matrix = compile_table(plan, columns)(frame)
    settings = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, **(parameters or {})}
    label = np.maximum(frame["__label"].to_numpy(), 0.5 if "reg" in str(settings) else 0)
    booster = xgboost.train(settings, xgboost.DMatrix(matrix, label=label), 12)
    content = PackageContent(
        family="flights.arrival_delay",
        plan=plan,
        columns=columns,
        model=bytes(booster.save_raw("ubj")),
        objective=str(settings["objective"]),
        samples=frame.slice(0, 60),
        reference={"leg__distance": bins_of(frame["leg__distance"].to_numpy())},
        score_rows=matrix[:500],
        primary_metric="auc",
    )
    return write_package(folder, content)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(tmp_path_factory.mktemp("made") / "package")


def test_a_package_predicts_its_samples_in_a_child(package: Package) -> None:
    """The trial in a child process finds every sample as it was recorded."""
    trial = validate_in_child(package.path, package.digest)
    assert (trial.rows, trial.largest_difference) == (60, 0.0)


def test_a_package_survives_being_loaded(package: Package) -> None:
    """Plan, columns, samples and baseline come back from the files alone."""
    loaded = load_package(package.path, package.digest)
    assert loaded.plan.fingerprint == flights_plan().fingerprint
    assert [c.name for c in loaded.manifest.columns] == list(COLUMNS)
    assert loaded.samples().column_names[-1] == PREDICTION
    assert loaded.baseline().features["leg__distance"].counts == (150,) * 10
    assert sum(loaded.baseline().score.counts) == 500


def test_one_file_of_a_package_is_no_pickle(package: Package) -> None:
    """A package is UBJ, ONNX, Arrow and JSON, nothing else."""
    names = sorted(p.name for p in package.path.iterdir())
    assert names == ["baseline.json", "manifest.json", "model.onnx", "model.ubj", "samples.arrow"]


@pytest.mark.parametrize(
    "name", ["manifest.json", "model.onnx", "model.ubj", "samples.arrow", "baseline.json"]
)
def test_one_flipped_byte_is_refused_before_parsing(
    package: Package, tmp_path: Path, name: str
) -> None:
    """Whichever file a byte is flipped in, the package is not loaded and the error says why."""
    copy = shutil.copytree(package.path, tmp_path / "copy")
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DamagedData, match="not the one that was registered"):
        load_package(copy, package.digest)
    with pytest.raises(DamagedData, match="failed its trial"):
        validate_in_child(copy, package.digest)


def test_a_model_that_kills_its_parser_kills_only_the_child(tmp_path: Path) -> None:
    """A crafted native file ends the child by a signal; here it is an error with a hint."""
    package = make_package(tmp_path / "package", {"booster": "dart"})
    assert package.manifest.parity.served == "xgboost"
    (package.path / "model.ubj").write_bytes(b"{L" + (1 << 28).to_bytes(8, "big"))
    with pytest.raises(DamagedData, match=r"killed its process \(signal 11\)"):
        validate_in_child(package.path, tree_digest(package.path))


def test_a_changed_prediction_fails_the_trial(package: Package, tmp_path: Path) -> None:
    """Another model behind the same samples is noticed, digest or not."""
    other = make_package(tmp_path / "other", {"max_depth": 1})
    shutil.copy(package.path / "model.onnx", other.path / "model.onnx")
    with pytest.raises(DamagedData, match="differ from those recorded"):
        validate_in_child(other.path, tree_digest(other.path))


def test_a_package_is_written_into_a_folder_of_its_own(package: Package) -> None:
    """A folder that exists is not written into."""
    with pytest.raises(Conflict):
        make_package(package.path)


def test_a_missing_package_is_not_found(tmp_path: Path) -> None:
    """A folder that is not there is not found."""
    with pytest.raises(NotFound):
        load_package(tmp_path / "none", "0" * 64)


def test_a_manifest_of_another_format_is_refused(package: Package, tmp_path: Path) -> None:
    """A manifest of a format not known here is damaged data with a hint, not a crash."""
    copy = shutil.copytree(package.path, tmp_path / "copy")
    data = orjson.loads((copy / "manifest.json").read_bytes())
    others: list[object] = [{**data, "format": 99}, {"format": 1}, []]
    for changed in others:
        (copy / "manifest.json").write_bytes(orjson.dumps(changed))
        with pytest.raises(DamagedData):
            load_package(copy, tree_digest(copy))


@pytest.mark.parametrize(
    "objective", ["binary:logistic", "reg:squarederror", "reg:absoluteerror", "count:poisson"]
)
def test_what_converts_exactly_is_served_by_onnx(tmp_path: Path, objective: str) -> None:
    """Where ONNX gives the native scores, missing values included, it is served."""
    parity = make_package(tmp_path / "p", {"objective": objective}).manifest.parity
    assert parity.served == "onnx", parity
    assert parity.largest_difference is not None
    assert parity.largest_difference <= 1e-6


def test_what_does_not_convert_is_served_natively(tmp_path: Path) -> None:
    """DART does not convert: XGBoost serves, the manifest says why, and no ONNX file stays."""
    package = make_package(tmp_path / "p", {"booster": "dart"})
    assert package.manifest.parity.reason
    assert not (package.path / "model.onnx").exists()
    assert validate_in_child(package.path, package.digest).rows == 60


def test_rows_and_table_give_one_matrix(package: Package) -> None:
    """Serving's rows and training's table become the same float32 matrix."""
    frame = flights_frame(300, seed=5)
    rows = rows_of(package.plan, frame)
    np.testing.assert_array_equal(package.prepare(rows), package.prepare_table(frame))


def test_plain_columns_are_all_numbers_in_order() -> None:
    """Without declared columns every numeric output is one, text is left out."""
    plan = flights_plan()
    columns = matrix_columns(plan)
    assert [c.name for c in columns] == [
        "carrier_delay__mean_3h",
        "carrier_delay__flights_3h",
        "leg__distance",
        "leg__evening",
    ]
    matrix = compile_rows(plan, columns)([(None, 3, 1e300, True, "BOS")])
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(matrix, np.array([[np.nan, 3, largest, 1]]))


@pytest.mark.parametrize(
    ("expr", "what"),
    [
        (col("leg__distence"), "leg__distance"),
        (ref("leg:dest"), "cannot read"),
        (query_time().hour(), "query_time"),
    ],
)
def test_columns_that_cannot_be_are_refused_when_defined(expr: Expr, what: str) -> None:
    """An unknown output, text, and the time asked for are errors with a hint."""
    with pytest.raises(DefinitionError, match=what):
        matrix_columns(flights_plan(), {"x": expr})


def test_a_table_without_a_column_is_bad_input(package: Package) -> None:
    """A frame that lacks an output says which."""
    with pytest.raises(BadInput, match="leg__distance"):
        package.prepare_table(flights_frame(10).drop_columns(["leg__distance"]))


def test_packages_and_gallery_load_no_trainer() -> None:
    """Importing what serving imports loads neither Ray, XGBoost, torch nor matplotlib."""
    program = (
        "import sys, training.package, training.gallery\n"
        "heavy = {'ray', 'xgboost', 'torch', 'matplotlib', 'onnxmltools', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print([m for m in sys.modules if m.startswith('training.trainers')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_the_room_door_is_empty() -> None:
    """``training/__init__.py`` holds nothing, so importing Gallery loads no trainer."""
    assert (ROOT / "training" / "__init__.py").read_text() == ""
