"""Which bucket a key belongs to: for one key column the same one that Iceberg's transform gives.

MurmurHash3 (x86, 32 bits, seed 0) over the UTF-8 bytes of text and the eight bytes, little-endian,
of a number, as the Iceberg specification says (appendix B). So rows that a table has bucketed by
an entity's key already need not move again, and no task has to load Iceberg.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint32]
_C1, _C2 = np.uint32(0xCC9E2D51), np.uint32(0x1B873593)


def bucket_of(keys: pa.Table, buckets: int) -> npt.NDArray[np.int64]:
    """The bucket of every row, by the values of all columns; 0 where one of them is null."""
    hashes = np.zeros(keys.num_rows, dtype=np.uint32)
    for place, column in enumerate(keys.columns):
        found = _hashes(column.combine_chunks())
        hashes = found if place == 0 else _finished(_mixed(hashes, found), 8)
    nulls = np.zeros(keys.num_rows, dtype=bool)
    for column in keys.columns:
        nulls |= column.is_null().to_numpy()
    place_of = (hashes & np.uint32(0x7FFFFFFF)).astype(np.int64) % buckets
    place_of[nulls] = 0
    return place_of


def _hashes(values: pa.Array) -> Hashes:
    """The hash of every value; keys repeat, so each distinct one is hashed once."""
    distinct = values.dictionary_encode()
    unique, codes = distinct.dictionary, pc.fill_null(distinct.indices, 0)
    if len(unique) == 0:
        return np.zeros(len(values), dtype=np.uint32)
    if pa.types.is_string(unique.type):
        hashed = _of_text(unique)
    else:
        hashed = _of_numbers(unique.cast(pa.int64()).to_numpy(zero_copy_only=False))
    hashes: Hashes = hashed[codes.to_numpy(zero_copy_only=False)]
    return hashes


def _of_numbers(numbers: npt.NDArray[np.int64]) -> Hashes:
    words = numbers.astype("<i8").view("<u4").reshape(-1, 2)
    return _finished(_mixed(_mixed(np.zeros(len(words), np.uint32), words[:, 0]), words[:, 1]), 8)


def _of_text(texts: pa.Array) -> Hashes:
    data = pc.cast(texts, pa.binary())
    lengths = pc.binary_length(data).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = np.frombuffer(b"".join(data.to_pylist()) + b"\0\0\0", dtype=np.uint8)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    hashes = np.zeros(len(lengths), dtype=np.uint32)
    for block in range(int(lengths.max()) // 4):
        here = lengths >= 4 * (block + 1)
        hashes[here] = _mixed(hashes[here], _words(flat, starts[here] + 4 * block, 4))
    for left in (1, 2, 3):
        here = lengths % 4 == left
        tail = _words(flat, starts[here] + lengths[here] - left, left)
        hashes[here] ^= _scrambled(tail)
    return _finished(hashes, lengths.astype(np.uint32))


def _words(flat: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], size: int) -> Hashes:
    words = np.zeros(len(at), dtype=np.uint32)
    for byte in range(size):
        words |= flat[at + byte].astype(np.uint32) << np.uint32(8 * byte)
    return words


def _mixed(hashes: Hashes, words: Hashes) -> Hashes:
    rotated = _rotated(hashes ^ _scrambled(words), 13)
    return (rotated * np.uint32(5) + np.uint32(0xE6546B64)).astype(np.uint32)


def _scrambled(words: Hashes) -> Hashes:
    return (_rotated(words * _C1, 15) * _C2).astype(np.uint32)


def _rotated(words: Hashes, by: int) -> Hashes:
    return (words << np.uint32(by)) | (words >> np.uint32(32 - by))


def _finished(hashes: Hashes, lengths: Hashes | int) -> Hashes:
    hashes = hashes ^ np.asarray(lengths, dtype=np.uint32)
    for multiplier, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13)):
        hashes = (hashes ^ (hashes >> np.uint32(shift))) * np.uint32(multiplier)
    return hashes ^ (hashes >> np.uint32(16))
