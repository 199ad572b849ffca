"""Resources: written in YAML, checked field by field, kept and shown as documents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.control.documents import (
    document_of,
    resource_data,
    resource_from,
    status_data,
    status_from,
)
from app.control.resources import Condition, Resource, Status, Stored, kind_of, make, read_yaml
from app.control.specs import read_duration
from app.errors import BadInput

HEAD = "apiVersion: tondo/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
texts = st.text(max_size=20)


def read(kind: str, spec: str) -> Resource:
    """One resource of that kind and spec."""
    return read_yaml(HEAD.format(kind=kind, spec=spec), "f.yaml")[0]


def test_defaults_stand_in_the_spec() -> None:
    """A spec is whole once it is read, so that a later default changes nothing by itself."""
    found = read("Deployment", "{family: a.b}")
    assert found.spec == {"family": "a.b", "version": "champion", "model": ""}
    assert found.origin == "f.yaml"


def test_the_owner_may_stand_in_the_spec() -> None:
    """A project's owner is its resource's owner, unless the metadata name another."""
    assert read("Project", "{owner: eta}").owner == "eta"


def test_documents_are_separate_resources() -> None:
    """One file may hold several; empty ones are nothing."""
    one = HEAD.format(kind="Project", spec="{}")
    assert len(read_yaml(f"---\n{one}---\n---\n{one.replace('x', 'y')}", "f.yaml")) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not YAML"),
        ("- 1", "a resource is a mapping"),
        ("kind: Project", "apiVersion is None"),
        ("apiVersion: tondo/v2", "apiVersion is 'tondo/v2'"),
        (HEAD.format(kind="Projet", spec="{}"), "no kind 'Projet'"),
        (HEAD.format(kind="Entity", spec="{}"), "not written in YAML"),
        (HEAD.format(kind="Run", spec="{}"), "made by the platform"),
        (HEAD.format(kind="Project", spec="[1]"), "not a mapping"),
        (HEAD.format(kind="Project", spec="{1: 2}"), "not a mapping"),
        (HEAD.format(kind="Project", spec="{}") + "status: {}", "'status' does not belong"),
        (HEAD.format(kind="Project", spec="{}") + "3: {}\nb: 1", "3 does not belong"),
        (HEAD.format(kind="Project", spec="{}").replace("x", "a/b"), "cannot be a name"),
        (HEAD.format(kind="Project", spec="{}").replace("x", "3"), "no metadata.name"),
        (HEAD.format(kind="Project", spec="{}").replace("x", "x, ownr: y"), "metadata.ownr"),
        (HEAD.format(kind="Project", spec="{}").replace("x", "x, owner: [y]"), "not text"),
        (HEAD.format(kind="Project", spec="{}").replace("x", "x, labels: {a: 1}"), "labels"),
        (HEAD.format(kind="Project", spec="{}").replace("x", "x, labels: a"), "labels"),
        (HEAD.format(kind="Project", spec="{tire: 2}"), "spec.tire: there is no such field"),
        (HEAD.format(kind="Project", spec="{tier: 5}"), "spec.tier"),
        (HEAD.format(kind="Project", spec="{slo: {p99: 1}}"), "spec.slo.p99"),
        (HEAD.format(kind="Project", spec="{retention: 2y}"), "'2y' is not a length of time"),
        (HEAD.format(kind="Deployment", spec="{}"), "spec.family: it is missing"),
        (HEAD.format(kind="Deployment", spec="{family: f, version: 0}"), "neither a version"),
        (HEAD.format(kind="Deployment", spec="{family: f, version: -1}"), "neither a version"),
        (HEAD.format(kind="Deployment", spec="{family: f, version: yes}"), "neither a version"),
        (HEAD.format(kind="Deployment", spec='{family: f, version: "@"}'), "neither a version"),
        (HEAD.format(kind="Deployment", spec="{family: f, version: 1.5}"), "neither a version"),
        (HEAD.format(kind="Rule", spec="{given: m, then: explode}"), "spec.then"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, said: str) -> None:
    """Every error names the file and the field, and has a hint."""
    with pytest.raises(BadInput) as caught:
        read_yaml(text, "f.yaml")
    assert said in caught.value.what
    assert "f.yaml" in caught.value.what
    assert caught.value.hint


def test_a_hint_knows_the_fields_of_the_part() -> None:
    """A mistyped field inside a part is compared with that part's fields."""
    with pytest.raises(BadInput) as caught:
        read("Project", "{slo: {freshnes: 1s}}")
    assert "freshness" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "micros"),
    [("90s", 90_000_000), ("15min", 900_000_000), ("6 h", 21_600_000_000), ("5ms", 5_000)],
)
def test_lengths_of_time_have_units(text: str, micros: int) -> None:
    """A length of time is a number with its unit; a bare number is µs."""
    assert read_duration(text) == micros
    assert read_duration(micros) == micros


@pytest.mark.parametrize("text", ["deployment", "Deployments", "DEPLOYMENT"])
def test_a_kind_may_be_written_as_people_do(text: str) -> None:
    """Any case, singular or plural."""
    assert kind_of(text) == "Deployment"
    assert kind_of("feature-views") == "FeatureView"
    assert kind_of("entities") == "Entity"
    assert kind_of("model families") == "ModelFamily"


def test_an_unknown_kind_gets_a_hint() -> None:
    """The nearest kinds are named."""
    with pytest.raises(BadInput) as caught:
        kind_of("Deploymnet")
    assert "Deployment" in caught.value.hint


def test_words_do_not_change_the_meaning() -> None:
    """Description, labels and owner are text; the spec is meaning."""
    old = make("Deployment", "d", {"family": "f"})
    said = make("Deployment", "d", {"family": "f"}, description="words", labels={"a": "b"})
    moved = make("Deployment", "d", {"family": "f", "version": 2})
    assert old.same_meaning(said)
    assert not old.same_text(said)
    assert old.fingerprint == said.fingerprint
    assert not old.same_meaning(moved)
    assert old.fingerprint != moved.fingerprint


@given(
    st.builds(
        Status,
        observed_generation=st.integers(0, 9),
        phase=texts,
        conditions=st.lists(
            st.builds(
                Condition,
                type=texts,
                status=st.booleans(),
                reason=texts,
                message=texts,
                operator_message=texts,
                hint=texts,
                at=st.integers(0, 2**50),
            ),
            max_size=3,
        ).map(tuple),
        detail=st.dictionaries(texts, st.integers(0, 5) | texts | st.none(), max_size=3),
    )
)
def test_a_status_survives_the_trip(status: Status) -> None:
    """A status is the same after it was data."""
    assert status_from(status_data(status)) == status


def test_a_resource_survives_the_trip() -> None:
    """A resource is the same after it was data."""
    made = make("Monitor", "m", {"family": "f"}, owner="o", labels={"a": "b"}, project="p")
    assert resource_from(resource_data(made)) == made


def test_a_document_has_stable_keys() -> None:
    """Scripts rely on these names."""
    stored = Stored(make("Project", "p", {}), 2, 3, 0, 1_000_000)
    document = document_of(stored)
    assert list(document) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert list(document["metadata"]) == [
        *("name", "project", "owner", "description", "labels", "origin", "fingerprint"),
        *("generation", "resourceVersion", "createdAt", "updatedAt"),
    ]
    assert document["metadata"]["updatedAt"] == "1970-01-01T00:00:01Z"
    assert list(document["status"]) == ["observedGeneration", "phase", "conditions"]
