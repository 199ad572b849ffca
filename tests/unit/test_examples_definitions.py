"""The example's definitions resolve, and read only columns that its files have."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.project import load_library, load_model, load_path
from features import Library, ServicePlan, resolve
from features.dtypes import from_arrow

FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights"


@pytest.fixture(scope="module")
def library() -> Library:
    """Everything that definitions.py defines."""
    return load_library(FLIGHTS)


def outputs(plan: ServicePlan) -> set[str]:
    """The columns that a service gives."""
    return {output.column for output in plan.outputs}


def test_sources_describe_the_files(library: Library, flights_sources: Path) -> None:
    """A source's schema is that of the file prepared for it, column by column."""
    for source in library.sources():
        schema = pq.read_schema(flights_sources / f"{source.name}.parquet")
        assert source.columns == {field.name: from_arrow(field.type) for field in schema}


def test_the_spine_has_every_key_and_request_field(library: Library, flights_sources: Path) -> None:
    """Any service of the example can be joined to the flights as they are prepared."""
    schema = pq.read_schema(flights_sources / "flights.parquet")
    known = {field.name: from_arrow(field.type) for field in schema}
    for service in library.services():
        plan = resolve(library, service)
        assert {**plan.key_columns, **plan.request_columns}.items() <= known.items()


def test_the_baselines_are_parts_of_the_services(library: Library) -> None:
    """Timetable, history and departure delay add up: each service is what its name says."""
    full = outputs(resolve(library, "arrival_delay"))
    timetable = outputs(resolve(library, "arrival_delay_request_only"))
    with_delay = outputs(resolve(library, "arrival_delay_with_dep_delay"))
    both = outputs(resolve(library, "arrival_delay_request_with_dep_delay"))
    assert timetable < full < with_delay
    assert with_delay - full == both - timetable == {"gate__dep_delay"}
    assert all(name.startswith("leg__") for name in timetable)


def test_no_service_reads_what_is_known_only_on_landing(library: Library) -> None:
    """The flight's own arrival is neither a key nor a request field of any service."""
    for service in library.services():
        plan = resolve(library, service)
        assert not {"arr_delay", "landed_at"} & {*plan.key_columns, *plan.request_columns}


def test_services_take_the_time_from_the_request(library: Library) -> None:
    """The year is replayed, so every service runs on the request's own clock."""
    assert {service.clock for service in library.services()} == {"replay"}


def test_the_model_learns_in_order_of_time(library: Library) -> None:
    """Training ends where October begins, and the test months are November and December."""
    model = load_model(FLIGHTS / "models" / "arrival_delay" / "model.py")
    bounds = model.split.bounds()
    assert bounds["train"][1] == bounds["validate"][0] == 1_380_600_000_000_000
    assert bounds["validate"][1] == bounds["test"][0] == 1_383_278_400_000_000
    services = {service.name for service in library.services()}
    assert {model.service, *model.baselines} == services


def test_resources_are_what_the_platform_takes() -> None:
    """The directory loads as one project whose deployment, monitor and rule are about one model."""
    loaded = load_path(FLIGHTS)
    by_kind = {resource.kind: resource for resource in loaded.resources}
    assert (loaded.project, by_kind["Project"].spec["tier"]) == ("flights", 2)
    families = {by_kind[kind].spec["family"] for kind in ("Deployment", "Monitor")}
    assert families == {by_kind["ModelFamily"].name} == {"flights.arrival_delay"}
    assert by_kind["Rule"].spec["given"] == by_kind["Monitor"].name
