"""Plans: what applying would change, what follows from it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.control.catalog import Catalog
from app.control.dependents import needs_of
from app.control.plan import plan
from app.control.resources import Resource, make, of_definition
from app.control.service import ControlService, apply_arguments
from app.errors import BadInput, Conflict, DefinitionError, NotFound
from app.project import Loaded, load_path
from features import RequestView, ref
from features.testing import ManualClock
from training.gallery import MemoryGallery, ModelVersion, to_data


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    with Catalog(tmp_path / "catalog.db", ManualClock()) as opened:
        yield opened


@pytest.fixture
def service(catalog: Catalog) -> ControlService:
    """The control plane's commands over it; the lake has one table."""
    return ControlService(catalog, MemoryGallery(ManualClock()), lambda: {"lake.payments": 1234})


def apply(service: ControlService, loaded: Loaded) -> dict[str, str]:
    """Applies what was loaded; address → action of what changed."""
    whole = [loaded.project] if loaded.whole else []
    done = service.ask("apply", {**apply_arguments(loaded.resources, whole), "actor": "me"})
    return {
        f"{c['kind']}/{c['name']}": c["action"]
        for c in done["changes"]
        if c["action"] != "unchanged"
    }


def edit(file: Path, old: str, new: str) -> None:
    """Changes a file of a project."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_applying_twice_changes_nothing(service: ControlService, shop: Path) -> None:
    """The second time everything is as it was."""
    assert set(apply(service, load_path(shop)).values()) == {"create"}
    assert apply(service, load_path(shop)) == {}


def test_words_and_meaning_are_told_apart(service: ControlService, shop: Path) -> None:
    """A description changes text; a longer window changes what the view and service mean."""
    apply(service, load_path(shop))
    edit(shop / "definitions.py", "A payment card.", "A card.")
    assert set(apply(service, load_path(shop)).values()) == {"text"}
    edit(shop / "definitions.py", "hours(3)), ", "hours(6)), ")
    changed = apply(service, load_path(shop))
    assert changed["FeatureView/spending"] == "meaning"
    assert "Entity/card" not in changed


def test_consequences_name_who_is_touched(service: ControlService, shop: Path) -> None:
    """A changed view must be materialized again, and says who reads it and with how many rows."""
    apply(service, load_path(shop))
    edit(shop / "definitions.py", "hours(3)), ", "hours(6)), ")
    loaded = load_path(shop)
    planned = service.ask("plan", apply_arguments(loaded.resources, ["shop"]))
    view = next(c for c in planned["changes"] if c["name"] == "spending")
    assert view["consequences"] == [
        "materialize spending from lake.payments (1,234 rows)",
        "service fraud serves it",
        "model shop.fraud consumes service fraud: train it again",
    ]


def test_planning_changes_nothing(catalog: Catalog, service: ControlService, shop: Path) -> None:
    """A plan is only looked at."""
    service.ask("plan", apply_arguments(load_path(shop).resources, ["shop"]))
    assert catalog.list() == ()


def test_what_a_whole_project_no_longer_has_is_deleted(
    catalog: Catalog, service: ControlService, shop: Path
) -> None:
    """A directory is everything that a project wants; a file of it is not."""
    apply(service, load_path(shop))
    (shop / "deployment.yaml").unlink()
    assert apply(service, load_path(shop / "definitions.py")) == {}
    assert apply(service, load_path(shop)) == {"Deployment/fraud": "delete"}
    assert catalog.list("Deployment") == ()


def test_runs_outlive_their_project(catalog: Catalog, service: ControlService, shop: Path) -> None:
    """What was done stays on record, whatever the project's files say."""
    apply(service, load_path(shop))
    status = {"observed_generation": 1, "phase": "Running", "conditions": [], "detail": {}}
    spec = {"model": "shop.fraud"}
    service.ask("record_run", {"name": "r", "spec": spec, "status": status, "project": "shop"})
    apply(service, load_path(shop))
    assert catalog.get("Run", "r").status.phase == "Running"


@pytest.mark.parametrize(
    ("address", "users"),
    [
        ("Entity/card", "FeatureView/spending"),
        ("Source/payments", "FeatureView/spending"),
        ("FeatureView/spending", "FeatureService/fraud"),
        ("FeatureService/fraud", "ModelFamily/shop.fraud"),
        ("ModelFamily/shop.fraud", "Deployment/fraud"),
    ],
)
def test_what_others_need_is_not_deleted(
    catalog: Catalog, service: ControlService, shop: Path, address: str, users: str
) -> None:
    """Deleting a part of something is Conflict, and names what it is a part of."""
    apply(service, load_path(shop))
    kind, name = address.split("/")
    with pytest.raises(Conflict, match=users):
        service.ask("delete", {"kind": kind, "name": name})
    assert catalog.get(kind, name).version == 1


def test_everything_can_be_deleted_from_the_top(
    catalog: Catalog, service: ControlService, shop: Path
) -> None:
    """In the order that the errors name, nothing is left."""
    apply(service, load_path(shop))
    order = ("Deployment/fraud", "ModelFamily/shop.fraud", "FeatureService/fraud")
    rest = ("FeatureView/spending", "Source/payments", "Entity/card", "Project/shop")
    for address in (*order, *rest):
        kind, name = address.split("/")
        service.ask("delete", {"kind": kind, "name": name})
    assert catalog.list() == ()


def test_a_project_cannot_take_away_what_another_needs(
    catalog: Catalog, service: ControlService, shop: Path, tmp_path: Path
) -> None:
    """A deployment of another project keeps its family from being deleted with its own."""
    apply(service, load_path(shop))
    other = tmp_path / "other"
    other.mkdir()
    (shop / "deployment.yaml").rename(other / "deployment.yaml")
    apply(service, load_path(other))
    (shop / "models/fraud/model.py").unlink()
    with pytest.raises(DefinitionError, match=r"ModelFamily/shop\.fraud .*Deployment/fraud"):
        apply(service, load_path(shop))
    assert len(catalog.list("ModelFamily")) == 1


def test_a_request_view_needs_the_views_that_it_reads() -> None:
    """A feature computed from another view's keeps that view."""
    view = RequestView("risk", {"amount": float}, {"twice": ref("spending:mean_3h") * 2.0})
    assert "FeatureView/spending" in needs_of(of_definition(view))


def test_definitions_that_do_not_fit_are_refused_whole(
    catalog: Catalog, service: ControlService, shop: Path
) -> None:
    """If one definition contradicts what is applied, nothing of the project is."""
    apply(service, load_path(shop))
    edit(shop / "definitions.py", 'key="card"', 'key="number"')
    edit(shop / "definitions.py", '"card": str', '"number": str')
    file = load_path(shop / "definitions.py")
    entity = next(r for r in file.resources if r.kind == "Entity")
    with pytest.raises(DefinitionError, match="defined twice"):
        apply(service, Loaded("shop", (entity,), whole=False))
    assert {s.version for s in catalog.list()} == {1}


def test_a_move_between_projects_is_told() -> None:
    """A resource that another project asks for says so."""
    stored = _stored(make("Project", "p", {}, project="a"))
    changes = plan([stored], [make("Project", "p", {}, project="b")]).changes
    assert changes[0].consequences == ("moves from project 'a' to 'b'",)


def test_gallery_is_written_through_the_service(service: ControlService) -> None:
    """Versions are numbered and aliases moved by the same front door."""
    draft = ModelVersion(family="shop.fraud", digest="a" * 64, service="fraud")
    made = service.ask("create_version", {"draft": to_data(draft)})
    assert made["version"] == 1
    move = {"family": "shop.fraud", "alias": "champion", "to": 1, "expect": None}
    assert service.ask("move_alias", move)["to"] == 1
    with pytest.raises(Conflict):
        service.ask("move_alias", move)


def test_an_unknown_command_is_refused(service: ControlService) -> None:
    """A command line of another version is told so; deleting nothing is NotFound."""
    with pytest.raises(BadInput, match="no command"):
        service.ask("explode", {})
    with pytest.raises(NotFound):
        service.ask("delete", {"kind": "Project", "name": "x"})


def _stored(resource: Resource) -> object:
    from app.control.resources import Stored

    return Stored(resource, 1, 1, 0, 0)
