"""The pure parts of Gallery."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from features.errors import BadInput, DamagedData
from training.gallery import (
    AliasMove,
    AuditEntry,
    Lineage,
    Metric,
    ModelVersion,
    from_data,
    move_from_data,
    read_reference,
    to_data,
)
from training.gallery.audit import next_entry, verify_chain

VERSION = ModelVersion(
    family="flights.arrival_delay",
    digest="0" * 64,
    service="arrival_delay",
    metrics=(Metric("auc", 0.7), Metric("auc", None, "test", "origin=EWR")),
    lineage=Lineage(run_id="r", parents=(1,), parameters={"eta": 0.1}),
    version=3,
)


def test_versions_and_moves_survive_json() -> None:
    """A version or move sent as JSON arrives as the same one."""
    move = AliasMove("f", "champion", 2, None, 5, "ann", "better")
    assert from_data(orjson.loads(orjson.dumps(to_data(VERSION)))) == VERSION
    assert move_from_data(orjson.loads(orjson.dumps(to_data(move)))) == move


def test_other_data_is_damaged() -> None:
    """Data that is no version is refused by name, not by a crash."""
    with pytest.raises(DamagedData):
        from_data({"family": "x"})
    with pytest.raises(DamagedData):
        move_from_data({"family": "x"})


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("flights.late", ("flights.late", None)),
        ("flights.late:12", ("flights.late", 12)),
        ("flights.late@champion", ("flights.late", "champion")),
    ],
)
def test_references_are_read(text: str, reference: tuple[str, int | str | None]) -> None:
    """FAMILY, FAMILY:VERSION and FAMILY@ALIAS are understood."""
    assert read_reference(text) == reference


@pytest.mark.parametrize("text", ["", ":1", "@champion", "f:", "f:x", "f@", "f:-1"])
def test_bad_references_are_refused(text: str) -> None:
    """Anything else is bad input."""
    with pytest.raises(BadInput):
        read_reference(text)


def test_an_audit_entry_seals_those_before_it() -> None:
    """Changing, dropping or swapping an entry breaks the chain where it happened."""
    entries: list[AuditEntry] = []
    for i in range(4):
        last = entries[-1] if entries else None
        entries.append(next_entry(last, at=i, actor="a", action="create", subject="s", data={}))
    assert verify_chain(entries) == 4
    changed = [*entries[:2], replace(entries[2], actor="b"), entries[3]]
    for broken in (changed, entries[1:], [entries[0], *entries[2:]], entries[::-1]):
        with pytest.raises(DamagedData):
            verify_chain(broken)
