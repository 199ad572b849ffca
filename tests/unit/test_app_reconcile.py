"""The control loop's decisions, and a whole control plane in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app.control.catalog import Catalog, Delete, Put
from app.control.deployment import Candidate, Progress, Verdict, Wanted, progress_of, status_of
from app.control.reconcile import (
    Desired,
    Observed,
    Push,
    Remember,
    StartActor,
    StopActor,
    reconcile,
)
from app.control.resources import Status, make
from app.control.world import MemoryWorld
from app.plane import PREDICTIONS, ControlPlane
from training.artifacts import LocalArtifacts
from training.gallery import MemoryGallery, ModelVersion

FAMILY = "shop.fraud"


@dataclass
class Hand:
    """A clock that is moved by hand."""

    moment: int = 1_000_000

    def now(self) -> int:
        """The moment."""
        return self.moment


class Judge:
    """A validator with verdicts by version, that counts how often it is asked."""

    def __init__(self) -> None:
        self.refused: dict[int, Verdict] = {}
        self.asked: list[int] = []

    def __call__(self, family: str, candidate: Candidate) -> Verdict:
        """Passes whatever is not refused."""
        self.asked.append(candidate.version)
        return self.refused.get(candidate.version, Verdict())


class Bench:
    """A control plane over an in-memory world."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.judge, self.world = folder, Hand(), Judge(), MemoryWorld()
        self.gallery = MemoryGallery(self.clock)
        self.artifacts = LocalArtifacts(folder / "artifacts")
        self.catalog = Catalog(folder / "catalog.db", self.clock)
        self.plane = self.make_plane()

    def make_plane(self) -> ControlPlane:
        """A plane as a restarted process would make it."""
        return ControlPlane(
            self.catalog,
            self.gallery,
            self.artifacts,
            self.world,
            self.judge,
            clock=self.clock,
            state_file=self.folder / "serving.json",
        )

    def register(self, champion: bool = True) -> int:
        """A new version of the family; makes it champion if asked."""
        count = len(self.gallery.list(FAMILY))
        package = self.folder / f"package-{count}"
        package.mkdir()
        (package / "model").write_text(str(count))
        draft = ModelVersion(family=FAMILY, digest=self.artifacts.put(package), service="s")
        number = self.gallery.create(draft).version
        if champion:
            self.gallery.move_alias(FAMILY, "champion", number, count or None)
        return number

    def deploy(self, **spec: object) -> None:
        """Asks for a deployment of the family."""
        resource = make("Deployment", "fraud", {"family": FAMILY, **spec})
        known = {s.resource.name: s.version for s in self.catalog.list("Deployment")}
        self.catalog.write([Put(resource, known.get("fraud", 0))])

    @property
    def phase(self) -> str:
        """Where the deployment stands."""
        return self.catalog.get("Deployment", "fraud").status.phase

    @property
    def message(self) -> str:
        """What its owner is told."""
        ready = self.catalog.get("Deployment", "fraud").status.condition("Ready")
        assert ready is not None
        return ready.message

    @property
    def served(self) -> set[int | None]:
        """The versions that the replicas answer with."""
        replicas = self.world.replicas()
        assert replicas is not None
        return {slot.version for held in replicas for slot in held.values()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh control plane in memory."""
    return Bench(tmp_path)


def test_a_champion_is_validated_pushed_and_steady(bench: Bench) -> None:
    """A deployment of the champion is served by every replica after one step."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    assert (bench.phase, bench.served, bench.judge.asked) == ("Steady", {1}, [1])


def test_a_second_step_does_nothing(bench: Bench) -> None:
    """Once everything is as it should be, a step takes no action."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    assert bench.plane.step() == {}
    assert len(bench.world.pushes) == 1


def test_a_deployment_waits_for_its_first_version(bench: Bench) -> None:
    """Without a champion the deployment is Pending and says how to get one."""
    bench.deploy()
    bench.plane.step()
    ready = bench.catalog.get("Deployment", "fraud").status.condition("Ready")
    assert bench.phase == "Pending"
    assert ready is not None
    assert "models promote" in ready.hint


def test_a_moved_alias_is_followed(bench: Bench) -> None:
    """When the alias moves, the replicas serve the new version."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    bench.register()
    bench.plane.step()
    assert (bench.phase, bench.served) == ("Steady", {2})


def test_a_refused_candidate_leaves_the_last_good_version_serving(bench: Bench) -> None:
    """A candidate that fails validation is told to the owner and never reaches a replica."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    bench.judge.refused[2] = Verdict("one byte is wrong")
    bench.register()
    bench.plane.step()
    assert (bench.phase, bench.served) == ("Degraded", {1})
    assert "one byte is wrong" in bench.message
    assert bench.plane.step() == {}


def test_a_refusal_that_may_pass_is_tried_again(bench: Bench) -> None:
    """A verdict marked to be tried again is asked for once more after a minute."""
    bench.judge.refused[1] = Verdict("the store was away", again=True)
    bench.register()
    bench.deploy()
    bench.plane.step()
    bench.plane.step()
    assert bench.judge.asked == [1]
    bench.judge.refused.clear()
    bench.clock.moment += 61_000_000
    bench.plane.step()
    assert (bench.phase, bench.judge.asked) == ("Steady", [1, 1])


def test_a_version_that_no_replica_can_load_is_taken_back(bench: Bench) -> None:
    """If the replicas refuse a version, the one before is pushed again: RolledBack."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    bench.register()
    bench.world.unloadable[bench.gallery.get(FAMILY, 2).digest] = "no such operator"
    bench.plane.step()
    assert (bench.phase, bench.served) == ("RolledBack", {1})
    assert "no such operator" in bench.message


def test_a_target_that_moves_mid_flight_supersedes(bench: Bench) -> None:
    """A version that is overtaken before it is steady gives way, and the history says so."""
    bench.register()
    bench.deploy()
    bench.world.count = None
    bench.plane.step()
    assert bench.phase == "Staging"
    bench.register()
    bench.plane.step()
    bench.world.count = 2
    bench.plane.step()
    phases = [e.data["to"] for e in bench.catalog.events("Deployment", "fraud") if "to" in e.data]
    assert "Superseded" in phases
    assert (bench.phase, bench.served) == ("Steady", {2})


def test_replicas_that_forgot_are_told_again(bench: Bench) -> None:
    """A replaced replica that holds nothing gets the desired state once more."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    bench.world.forget()
    bench.plane.step()
    assert (bench.phase, bench.served) == ("Steady", {1})


def test_a_silent_serve_degrades_and_recovers(bench: Bench) -> None:
    """While Serve does not answer the deployment is Degraded; when it does, Steady again."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    bench.world.count = None
    bench.plane.step()
    assert bench.phase == "Degraded"
    bench.world.count = 2
    bench.plane.step()
    assert bench.phase == "Steady"


def test_going_back_to_the_version_before_needs_no_validation(bench: Bench) -> None:
    """Rolling back is a pointer move: the version that was steady before is not tried again."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    bench.register()
    bench.plane.step()
    bench.gallery.move_alias(FAMILY, "champion", 1, 2)
    bench.plane.step()
    assert (bench.phase, bench.served, bench.judge.asked) == ("Steady", {1}, [1, 2])


def test_a_deleted_deployment_is_no_longer_served(bench: Bench) -> None:
    """Deleting a deployment takes its model from the replicas."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    stored = bench.catalog.get("Deployment", "fraud")
    bench.catalog.write([Delete("Deployment", "fraud", stored.version)])
    bench.plane.step()
    assert bench.served == set()


def test_a_restarted_plane_goes_on_where_the_last_one_was(bench: Bench) -> None:
    """A plane made anew from the same files finds nothing to do."""
    bench.register()
    bench.deploy()
    bench.plane.step()
    assert bench.make_plane().step() == {}


def test_the_committer_of_predictions_always_runs(bench: Bench) -> None:
    """The writer of prediction logs is started even before anything is applied."""
    bench.plane.step()
    assert bench.world.actors() == {PREDICTIONS}


def test_two_deployments_of_one_name_do_not_fight() -> None:
    """The first deployment by name owns a model's public name; the other one is told."""
    a = Candidate(1, "a" * 64)
    wanted = tuple(Wanted(name, "m", "shop.m", 1) for name in ("b", "a"))
    observed = Observed(targets={"a": a, "b": a}, replicas=())
    actions = reconcile(Desired(wanted), observed, 0)
    said = {r.deployment: r.progress.message for r in actions if isinstance(r, Remember)}
    assert "already serves" in said["b"]


def test_actors_are_started_and_stopped_by_name() -> None:
    """Missing actors are started, unwanted ones are stopped."""
    actions = reconcile(Desired(actors=frozenset("ab")), Observed(actors=frozenset("bc")), 0)
    assert actions == (StartActor("a"), StopActor("c"))


def test_changed_services_are_pushed() -> None:
    """New feature services reach the replicas even if no model changed."""
    actions = reconcile(Desired(services="new"), Observed(pushed=(), pushed_services="old"), 0)
    assert actions == (Push((), "new"),)


def test_progress_survives_the_catalog() -> None:
    """What the loop remembers is the same after a trip through a status."""
    progress = Progress(
        phase="Degraded",
        generation=3,
        target=Candidate(2, "b" * 64),
        serving=Candidate(1, "a" * 64),
        verdict=Verdict("why", "hint", again=True),
        since=5,
        message="m",
        operator_message="o",
        hint="h",
    )
    assert progress_of(status_of(progress, 7, Status())) == progress
    assert progress_of(status_of(replace(progress, verdict=None), 7, Status())).verdict is None
