"""A candidate is tried before anything depends on it: bytes, predictions, features."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import xgboost

from app.control.deployment import Candidate, Verdict
from app.errors import Unavailable
from app.validation import PackageValidator
from features import FeatureService, FeatureView, Library, col, hours, mean
from training.artifacts import LocalArtifacts
from training.package import (
    PackageContent,
    compile_table,
    matrix_columns,
    write_package,
)
from training.testing import flights_frame, flights_library, flights_plan

FAMILY = "flights.arrival_delay"
Stored = tuple[Path, str]


def store(
    folder: Path, service: str = "late_request_only", column: str = "leg__distance"
) -> Stored:
    """A store in a folder with one real package, and its digest."""
    plan, frame = flights_plan(service), flights_frame(300)
    columns = matrix_columns(plan, {"x": col(column)})
    matrix = compile_table(plan, columns)(frame)
    label = frame["__label"].to_numpy()
    settings = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(matrix, label=label), 3)
    content = PackageContent(
        family=FAMILY,
        plan=plan,
        columns=columns,
        model=bytes(booster.save_raw("ubj")),
        objective="binary:logistic",
        samples=frame.slice(0, 20),
        reference={},
        score_rows=matrix[:100],
        primary_metric="auc",
    )
    write_package(folder / "package", content)
    root = folder / "store"
    return root, LocalArtifacts(root).put(folder / "package")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A store with a package that reads request fields alone."""
    return store(tmp_path_factory.mktemp("request"))


@pytest.fixture(scope="module")
def with_view(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A store with a package that reads a feature view."""
    return store(tmp_path_factory.mktemp("view"), "late", "carrier_delay__mean_3h")


def verdict(root: Path, digest: str, library: Library, family: str = FAMILY) -> Verdict:
    """What is found about a candidate."""
    validate = PackageValidator(LocalArtifacts(root), lambda: library)
    return validate(family, Candidate(1, digest))


def test_a_whole_package_of_known_features_passes(stored: Stored) -> None:
    """Nothing is wrong with what was just made."""
    assert verdict(*stored, flights_library()) == Verdict()


def test_a_package_of_another_family_is_refused(stored: Stored) -> None:
    """A version must answer for the family that it was made for."""
    found = verdict(*stored, flights_library(), "shop.fraud")
    assert FAMILY in found.refused
    assert not found.again


def test_one_flipped_byte_is_refused_for_good(stored: Stored, tmp_path: Path) -> None:
    """Wrong bytes stay wrong: the verdict is final and has a reason."""
    root, digest = stored
    shutil.copytree(root, tmp_path / "store")
    place = LocalArtifacts(tmp_path / "store").path(digest)
    file = max((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    found = verdict(tmp_path / "store", digest, flights_library())
    assert found.refused
    assert not found.again


def test_a_package_that_is_not_there_is_refused(stored: Stored) -> None:
    """A digest without bytes never reaches a replica."""
    assert "not in" in verdict(stored[0], "f" * 64, flights_library()).refused


def test_a_view_that_is_not_applied_is_named(with_view: Stored) -> None:
    """Without its features a model cannot answer; the hint says how to apply them."""
    assert verdict(*with_view, flights_library()) == Verdict()
    found = verdict(*with_view, Library())
    assert "carrier_delay is not applied" in found.refused
    assert "tondo apply" in found.hint


def test_a_view_that_means_something_else_is_named(with_view: Stored) -> None:
    """A model is not served with features that it did not learn from."""
    old = flights_library().view("carrier_delay")
    features = {**old.features, "mean_3h": mean(col("arr_delay")).over(hours(4))}
    changed = FeatureView("carrier_delay", entity=old.entity, source=old.source, features=features)
    found = verdict(*with_view, Library.from_definitions([FeatureService("late", [changed])]))
    assert "means something else" in found.refused
    assert old.fingerprint in found.refused


def test_a_store_that_is_away_is_asked_again(stored: Stored) -> None:
    """What may pass by itself is no verdict on the candidate."""

    def away() -> Library:
        raise Unavailable("the catalog is away")

    validate = PackageValidator(LocalArtifacts(stored[0]), away)
    found = validate(FAMILY, Candidate(1, stored[1]))
    assert (found.refused, found.again) == ("the catalog is away", True)
