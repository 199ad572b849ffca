"""Registers: one estimate whatever the order and split, as far off as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.algebra.bytes import Reader, Writer
from features.algebra.hyperloglog import RANKS, REGISTERS, HyperLogLog, estimates, place_of
from features.algebra.kinds import Partial
from features.errors import DamagedData

SKETCH = HyperLogLog()
ORDER = (0, 0, None)
VALUES = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.floats(), st.booleans())


def sketched(values: list[object]) -> Partial:
    """A partial of values, one after another."""
    partial = SKETCH.empty()
    for value in values:
        partial = SKETCH.add(partial, value, ORDER)
    return partial


def of_numbers(numbers: range) -> Partial:
    """A partial of whole numbers, put together from a thousand at a time."""
    registers = np.zeros(REGISTERS, dtype=np.uint8)
    for number in numbers:
        register, rank = place_of(number)
        registers[register] = max(registers[register], rank)
    return SKETCH.read(Reader(written(registers.tobytes())))


def written(data: bytes) -> bytes:
    """Bytes as a partial is stored."""
    out = Writer()
    out.raw(data)
    return out.done()


@given(left=st.lists(VALUES, max_size=30), right=st.lists(VALUES, max_size=30))
def test_order_and_split_change_no_byte(left: list[object], right: list[object]) -> None:
    """The bytes of all values at once, in any order, are those of two parts merged."""
    whole = sketched([*left, *right])
    assert SKETCH.merge(sketched(left), sketched(right)) == whole
    assert sketched([*right[::-1], *left, *right]) == whole
    out = Writer()
    SKETCH.write(whole, out)
    assert SKETCH.read(Reader(out.done())) == whole


@given(values=st.lists(st.integers(0, 400), max_size=300))
def test_a_few_values_are_counted_nearly_exactly(values: list[int]) -> None:
    """Below some hundred values hardly two share a register."""
    exact = len(set(values))
    assert abs(SKETCH.finish(sketched(list(values))) - exact) <= 1 + exact // 20


@pytest.mark.parametrize("size", [5_000, 30_000, 200_000])
def test_many_values_are_counted_within_the_error(size: int) -> None:
    """Within four standard errors of 1.6 %, also where every register is taken."""
    found = SKETCH.finish(of_numbers(range(size)))
    assert abs(found / size - 1) < 4 * 1.04 / math.sqrt(REGISTERS)


def test_the_estimate_grows_with_every_register() -> None:
    """From nothing to all registers full, and a value there is always above none."""
    counts = np.zeros((REGISTERS + 1, RANKS), dtype=np.int64)
    taken = np.arange(REGISTERS + 1)
    counts[:, 1], counts[:, 0] = taken, REGISTERS - taken
    found = estimates(counts)
    assert (found[0], found[1]) == (0, 1)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\x05\0\x01\x04\0\x01",
        b"\x05\0\x01\x05\0\x01",
        b"\xff\xff\x01",
        b"\x05\0\x00",
        b"\x05\0\x36",
        bytes(REGISTERS),
        b"\x36" * REGISTERS,
        b"\x01\0\x01" * (REGISTERS // 3 + 1),
    ],
    ids=["torn", "disorder", "twice", "no register", "no rank", "rank", "none", "ranks", "long"],
)
def test_other_bytes_are_damage(data: bytes) -> None:
    """Bytes that no sketch writes are refused, so that equal sketches are equal bytes."""
    with pytest.raises(DamagedData):
        SKETCH.read(Reader(written(data)))
