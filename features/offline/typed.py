"""From a file's own types to a declared schema, with nothing cast that could lose anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.dtypes import DType, as_dtype, from_arrow, to_arrow
from features.errors import BadInput
from features.naming import did_you_mean
from features.offline.files import RawPiece

_NO_NUMBER = ["NA", "N/A", "null", "NULL"]
_ZONE = r"\d:\d{2}[^zZ+-]*(?:[zZ]|[+-]\d{2}(?::?\d{2})?)$"
_HINTS: dict[DType, str] = {
    "bool": "Write true or false; leave the field empty for null.",
    "float": "Write a number with a point, or NaN; leave the field empty for null.",
    "int": "Write a whole number below 2^63; leave the field empty for null.",
    "str": "Write text.",
    "time": "Write ISO 8601 with a zone: 2013-01-01T10:00:00Z.",
}
NAIVE_HINT = (
    "Say which zone it is in, for example 2013-01-01T10:00:00-05:00; "
    "in Parquet, use timestamp[us, tz=UTC]."
)
_JSON: dict[DType, tuple[type, ...]] = {
    "bool": (bool,),
    "float": (float, int),
    "int": (int,),
    "str": (str,),
    "time": (str,),
}


def typed(place: str, piece: RawPiece, schema: Mapping[str, DType]) -> pa.Table:
    """The rows with exactly the columns of a schema.

    Raises BadInput, naming file, column and row, for a missing column, a value of another type or
    a time without a zone. Whole numbers may stand for floats where they fit exactly.
    """
    arrays = {
        name: _array(f"{place}, column {name!r}", piece, piece.columns[name], dtype)
        if name in piece.columns
        else pa.nulls(piece.rows, to_arrow(dtype))
        for name, dtype in schema.items()
    }
    return pa.table(arrays)


def check_columns(place: str, found: Sequence[str], schema: Mapping[str, DType]) -> list[str]:
    """The file's columns that the schema does not have; BadInput for those it lacks."""
    missing = [name for name in schema if name not in found]
    if missing:
        raise BadInput(
            f"{place} has no column {', '.join(map(repr, missing))}",
            did_you_mean(missing[0], found, "columns of the file"),
        )
    return [name for name in found if name not in schema]


def _array(place: str, piece: RawPiece, values: Any, dtype: DType) -> pa.Array:
    if piece.is_text:
        return _parsed(place, values, dtype, piece.first_row)
    if isinstance(values, list):
        return _from_json(place, values, dtype, piece.first_row)
    return _from_arrow(place, values, dtype)


def _from_arrow(place: str, values: pa.Array, dtype: DType) -> pa.Array:
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), to_arrow(dtype))
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        raise BadInput(f"{place}: times without a zone", NAIVE_HINT)
    try:
        if dtype == "float" and pa.types.is_integer(values.type):
            return pc.cast(values, pa.float64())
        if from_arrow(values.type) == dtype:
            return as_dtype(values, dtype)
    except (BadInput, pa.ArrowInvalid) as error:
        raise BadInput(f"{place}: {getattr(error, 'what', error)}", _HINTS.get(dtype, "")) from None
    raise BadInput(
        f"{place} is {values.type}, the source declares {dtype}",
        "Write the column with that type, or correct the source's schema; nothing is cast.",
    )


def _parsed(place: str, texts: pa.Array, dtype: DType, first_row: int) -> pa.Array:
    if dtype == "str":
        return texts
    if dtype == "time":
        return _times(place, texts, first_row)
    blanked = pc.if_else(pc.is_in(texts, pa.array(_NO_NUMBER)), pa.scalar(None, pa.string()), texts)
    return _cast(place, blanked, dtype, first_row)


def _times(place: str, texts: pa.Array, first_row: int) -> pa.Array:
    zoned = pc.match_substring_regex(texts, _ZONE).fill_null(True)
    if not pc.all(zoned).as_py():
        bad = int(np.argmin(zoned.to_numpy(zero_copy_only=False)))
        if pc.match_substring_regex(texts[bad], r"^\d{4}-\d{2}-\d{2}").as_py():
            raise BadInput(
                f"{place}, row {first_row + bad}: {texts[bad].as_py()!r} has no time zone",
                NAIVE_HINT,
            )
    whole_micros = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    return _cast(place, whole_micros, "time", first_row)


def _cast(place: str, texts: pa.Array, dtype: DType, first_row: int) -> pa.Array:
    try:
        return pc.cast(texts, to_arrow(dtype))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        bad = _first_bad(texts, to_arrow(dtype))
    raise BadInput(
        f"{place}, row {first_row + bad}: {texts[bad].as_py()!r} is not {dtype}",
        _HINTS.get(dtype, "Use Parquet for lists and maps."),
    )


def _first_bad(texts: pa.Array, kind: pa.DataType) -> int:
    """The first row that cannot be cast, by halving."""
    good, bad = 0, len(texts)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            pc.cast(texts.slice(good, middle - good), kind)
            good = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            bad = middle
    return good


def _from_json(place: str, values: list[Any], dtype: DType, first_row: int) -> pa.Array:
    allowed = _JSON.get(dtype)
    if allowed is None:
        return _nested_from_json(place, values, dtype)
    if not {type(value) for value in values} <= {*allowed, type(None)}:
        row, bad = _first_stranger(values, allowed)
        raise BadInput(f"{place}, line {first_row + row}: {bad!r} is not {dtype}", _HINTS[dtype])
    if dtype == "time":
        return _times(place, pa.array(values, pa.string()), first_row)
    try:
        return pa.array(values, to_arrow(dtype))
    except (OverflowError, pa.ArrowInvalid) as error:
        raise BadInput(f"{place}: {error}", _HINTS[dtype]) from None


def _first_stranger(values: list[Any], allowed: tuple[type, ...]) -> tuple[int, Any]:
    strangers = (
        (i, value) for i, value in enumerate(values) if type(value) not in {*allowed, type(None)}
    )
    return next(strangers)


def _nested_from_json(place: str, values: list[Any], dtype: DType) -> pa.Array:
    pairs = [list(value.items()) if isinstance(value, dict) else value for value in values]
    try:
        return pa.array(pairs, to_arrow(dtype))
    except (TypeError, OverflowError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"{place}: not {dtype}: {error}", "Use null, or values of that type."
        ) from None
