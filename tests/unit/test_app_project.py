"""Projects are loaded by path, and what is wrong in them is told with its file and line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.errors import BadInput, DefinitionError, NotFound
from app.project import find_model, load_library, load_model, load_path


def test_a_directory_is_a_whole_project(shop: Path) -> None:
    """Every resource is found, belongs to the project and knows its file."""
    loaded = load_path(shop)
    assert (loaded.project, loaded.whole) == ("shop", True)
    assert {r.address for r in loaded.resources} == {
        "Project/shop",
        "Deployment/fraud",
        "Entity/card",
        "Source/payments",
        "FeatureView/spending",
        "FeatureService/fraud",
        "ModelFamily/shop.fraud",
    }
    assert {r.project for r in loaded.resources} == {"shop"}
    assert all(Path(r.origin).is_relative_to(shop) for r in loaded.resources)


def test_a_file_is_a_part_of_its_project(shop: Path) -> None:
    """A file alone is not whole, but still belongs to the project around it."""
    loaded = load_path(shop / "definitions.py")
    assert not loaded.whole
    assert {r.project for r in loaded.resources} == {"shop"}
    assert len(load_path(shop / "deployment.yaml").resources) == 1


def test_a_directory_without_a_name_is_named_after_itself(shop: Path) -> None:
    """Without project.yaml the project is called like its folder."""
    (shop / "project.yaml").unlink()
    assert load_path(shop).project == "shop"


def test_loading_leaves_nothing_behind(shop: Path) -> None:
    """A project's neighbours can be imported while it loads; no path, module or cache stays."""
    (shop / "rates.py").write_text("LIMIT = 3\n")
    text = (shop / "definitions.py").read_text()
    (shop / "definitions.py").write_text(f"import rates\nassert rates.LIMIT == 3\n{text}")
    path = list(sys.path)
    load_path(shop)
    assert sys.path == path
    assert "rates" not in sys.modules
    assert not list(shop.rglob("__pycache__"))


def test_two_projects_with_modules_of_one_name_do_not_meet(shop: Path, tmp_path: Path) -> None:
    """Each project gets its own neighbour, whichever was loaded first."""
    other = tmp_path / "other"
    other.mkdir()
    for folder, name in ((shop, "card"), (other, "bank")):
        (folder / "names.py").write_text(f"NAME = {name!r}\n")
        code = "from features import Entity\nfrom names import NAME\nx = Entity(NAME, key='k')\n"
        (folder / "definitions.py").write_text(code)
    (shop / "models/fraud/model.py").unlink()
    for folder, name in ((shop, "card"), (other, "bank"), (shop, "card")):
        assert f"Entity/{name}" in {r.address for r in load_path(folder).resources}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1 / 0", ":1: ZeroDivisionError"),
        ("\n\nimport no_such_module", ":3: ModuleNotFoundError"),
        ("def f(", "was never closed"),
        ("raise SystemExit(3)", ":1: SystemExit"),
        ("from features import Entity\nEntity('a__b', key='k')", ":2: 'a__b' cannot name"),
        ("\x00", "null bytes"),
    ],
)
def test_what_a_project_raises_is_told_with_its_line(shop: Path, code: str, said: str) -> None:
    """Whatever the project's Python does, the error names its file, its line and the reason."""
    file = shop / "definitions.py"
    file.write_text(code)
    with pytest.raises(DefinitionError) as caught:
        load_path(shop)
    assert said in caught.value.what
    assert str(file) in caught.value.what


def test_two_meanings_of_one_name_are_refused(shop: Path) -> None:
    """The same name with two definitions is an error, not the last one's win."""
    with (shop / "definitions.py").open("a") as file:
        file.write('other = Entity("card", key="number")\n')
    with pytest.raises(DefinitionError, match="twice"):
        load_path(shop)


def test_two_resources_of_one_address_are_refused(shop: Path) -> None:
    """Two files that ask for the same resource differently are told of each other."""
    text = (shop / "deployment.yaml").read_text().replace("@champion", "3")
    (shop / "second.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"deployment\.yaml and in .*second\.yaml"):
        load_path(shop)


@pytest.mark.parametrize("room", ["features", "app"])
def test_a_folder_named_like_a_room_is_refused(shop: Path, room: str) -> None:
    """Python could import either of them, so neither is imported."""
    (shop / room).mkdir()
    with pytest.raises(BadInput, match="name of a room"):
        load_path(shop)


def test_what_is_no_project_is_refused(tmp_path: Path) -> None:
    """Nothing there, an empty folder and a file of another kind each get their own error."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").touch()
    with pytest.raises(NotFound, match="nothing at"):
        load_path(tmp_path / "missing")
    with pytest.raises(NotFound, match="holds no project"):
        load_path(tmp_path / "empty")
    with pytest.raises(BadInput, match="neither Python nor YAML"):
        load_path(tmp_path / "x.txt")
    with pytest.raises(NotFound, match=r"no definitions\.py"):
        load_library(tmp_path / "empty")


def test_a_model_is_found_by_its_family(shop: Path, tmp_path: Path) -> None:
    """The first project that has the family is the one; an unknown family gets a hint."""
    file = find_model("shop.fraud", [shop])
    assert load_model(file).service == "fraud"
    with pytest.raises(NotFound) as caught:
        find_model("shop.frad", [shop])
    assert "shop.fraud" in caught.value.hint


def test_a_model_file_without_a_model_is_refused(shop: Path) -> None:
    """A model.py that makes no MODEL says what to write."""
    (shop / "models/fraud/model.py").write_text("x = 1\n")
    with pytest.raises(DefinitionError, match="has no MODEL"):
        load_path(shop)


def test_two_projects_in_one_directory_are_refused(shop: Path) -> None:
    """A directory is one project."""
    text = (shop / "project.yaml").read_text()
    (shop / "second.yaml").write_text(text.replace("shop", "other"))
    with pytest.raises(BadInput, match="2 projects"):
        load_path(shop)
