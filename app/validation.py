"""Trying a candidate before anything depends on it: its bytes, its predictions, its features."""

from __future__ import annotations

from collections.abc import Callable

from app.control.deployment import Candidate, Verdict
from app.errors import DamagedData, DefinitionError, NotFound, TondoError
from features.library import Library
from features.plan import ServicePlan
from training.artifacts import ArtifactStore
from training.package import load_package, validate_in_child


class PackageValidator:
    """Implements Validator: digest first, then a child process, then the feature definitions."""

    def __init__(
        self, artifacts: ArtifactStore, library: Callable[[], Library], timeout_s: float = 120.0
    ) -> None:
        self._artifacts = artifacts
        self._library = library
        self._timeout_s = timeout_s

    def __call__(self, family: str, candidate: Candidate) -> Verdict:
        """What was found; a store that was away is tried again, wrong bytes never are."""
        try:
            self._check(family, candidate)
        except (DamagedData, DefinitionError, NotFound) as error:
            return Verdict(error.what, error.hint)
        except TondoError as error:
            return Verdict(error.what, error.hint, again=True)
        return Verdict()

    def _check(self, family: str, candidate: Candidate) -> None:
        path = self._artifacts.path(candidate.digest)
        validate_in_child(path, candidate.digest, timeout=self._timeout_s)
        package = load_package(path, candidate.digest)
        if package.manifest.family != family:
            raise DefinitionError(
                f"the package was made for {package.manifest.family}, not for {family}",
                "Register it under its own family.",
            )
        _check_features(package.plan, self._library())


def _check_features(plan: ServicePlan, library: Library) -> None:
    """Refuses a model whose views have come to mean something else since it was trained."""
    now = {view.name: view.fingerprint for view in library.views()}
    for part in plan.views:
        view = part.view
        found = now.get(view.name)
        if found is None:
            raise DefinitionError(
                f"its feature view {view.name} is not applied",
                "Apply the project that defines it: tondo apply PATH",
            )
        if found != view.fingerprint:
            raise DefinitionError(
                f"feature view {view.name} means something else than at training "
                f"({view.fingerprint} then, {found} now)",
                "Train the model again, or apply the old definition.",
            )
