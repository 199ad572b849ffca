"""How many different values there were, from 4,096 registers: HyperLogLog.

A register keeps the greatest rank of the values that fell to it, and the greatest of two is the
same in whatever order and split they come. So partials are equal to the last byte, in every engine.
The estimate is Ertl's improved one (arXiv:1702.01284, algorithm 6): it needs no table and no
logarithm, only arithmetic that every machine rounds alike. Its standard error is 1.04 / √4096:
1.6 %.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.algebra.bytes import Reader, Writer, damaged
from features.algebra.collections import named_nan
from features.algebra.kinds import Order, Partial

Registers = NDArray[np.uint8]
Floats = NDArray[np.float64]

_BITS = 12
REGISTERS = 1 << _BITS
_REST = 64 - _BITS
RANKS = _REST + 2
"""A register holds 0, for no value, up to 53."""
_PAIR = np.dtype([("register", "<u2"), ("rank", "u1")])
_SPARSE = REGISTERS // _PAIR.itemsize
"""Up to so many registers are written as pairs, which are then no longer than all of them."""
_ALPHA = 0.7213475204444817  # 1 / (2 ln 2)


class HyperLogLog:
    """A partial is its bytes: pairs of a register and its rank, or the ranks of all registers."""

    def empty(self) -> Partial:
        """No value."""
        return b""

    def add(self, partial: Partial, value: Any, order: Order) -> Partial:
        """One value more."""
        register, rank = place_of(value)
        registers = _opened(partial)
        if registers[register] >= rank:
            return partial
        registers[register] = rank
        return _packed(registers)

    def merge(self, a: Partial, b: Partial) -> Partial:
        """The values of both."""
        if not a or not b:
            return a or b
        return _packed(np.maximum(_opened(a), _opened(b)))

    def finish(self, partial: Partial) -> int:
        """The estimated number of different values."""
        if not partial:
            return 0
        counts = np.bincount(_opened(partial), minlength=RANKS)
        return int(estimates(counts[np.newaxis, :])[0])

    def write(self, partial: Partial, out: Writer) -> None:
        """The bytes with their length."""
        out.raw(partial)

    def read(self, data: Reader) -> Partial:
        """The bytes. Raises DamagedData if they are not those of registers."""
        return _checked(data.raw())


def place_of(value: Any) -> tuple[int, int]:
    """The register that a value falls to, and its rank there: from 1, each half as likely."""
    out = Writer()
    out.value(named_nan(value))
    number = int.from_bytes(blake2b(out.done(), digest_size=8).digest(), "big")
    rest = number & ((1 << _REST) - 1)
    return number >> _REST, _REST - rest.bit_length() + 1


def estimates(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The estimates for rows that say how many registers hold 0, 1, 2 … 53."""
    held = counts.astype(np.float64)
    found = REGISTERS * _tau(1.0 - held[:, -1] / REGISTERS)
    for rank in range(_REST, 0, -1):
        found = 0.5 * (found + held[:, rank])
    found = found + REGISTERS * _sigma(held[:, 0] / REGISTERS)
    return np.floor(_ALPHA * REGISTERS * REGISTERS / found + 0.5).astype(np.int64)


def _sigma(x: Floats) -> Floats:
    """x + Σ 2ᵏ⁻¹ x^(2ᵏ), from k = 1, until no term counts any more; infinite at 1."""
    found, power, before = x.copy(), 1.0, np.full_like(x, -1.0)
    found[x == 1.0] = np.inf
    while not np.array_equal(found, before):
        x, before = x * x, found
        found, power = found + x * power, power * 2.0
    return found


def _tau(x: Floats) -> Floats:
    """(1 − x − Σ 2⁻ᵏ (1 − x^(2⁻ᵏ))²) / 3, from k = 1, until no term counts any more."""
    edge = (x == 0.0) | (x == 1.0)
    found, power, before = 1.0 - x, 1.0, np.full_like(x, -1.0)
    while not np.array_equal(found, before):
        x, before, power = np.sqrt(x), found, power * 0.5
        found = found - (1.0 - x) * (1.0 - x) * power
    return np.where(edge, 0.0, found / 3.0)


def _opened(partial: bytes) -> Registers:
    if len(partial) == REGISTERS:
        return np.frombuffer(partial, dtype=np.uint8).copy()
    pairs = np.frombuffer(partial, dtype=_PAIR)
    registers = np.zeros(REGISTERS, dtype=np.uint8)
    registers[pairs["register"]] = pairs["rank"]
    return registers


def _packed(registers: Registers) -> bytes:
    taken = np.flatnonzero(registers)
    if len(taken) > _SPARSE:
        return registers.tobytes()
    pairs = np.empty(len(taken), dtype=_PAIR)
    pairs["register"], pairs["rank"] = taken, registers[taken]
    return pairs.tobytes()


def _checked(partial: bytes) -> bytes:
    if len(partial) != REGISTERS:
        pairs, odd = divmod(len(partial), _PAIR.itemsize)
        if odd or pairs > _SPARSE:
            raise damaged()
        if (np.frombuffer(partial, dtype=_PAIR)["register"] >= REGISTERS).any():
            raise damaged()
    registers = _opened(partial)
    if registers.max(initial=0) >= RANKS or _packed(registers) != partial:
        raise damaged()
    return partial
