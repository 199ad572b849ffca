"""The few value types of the feature language, and their Arrow forms."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from features.errors import BadInput, DefinitionError

DType = str
"""``bool int float str time``, or ``list<T>`` and ``map<str,T>`` of those."""

SCALARS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "float": pa.float64(),
    "int": pa.int64(),
    "str": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
}
_PYTHON: dict[Any, DType] = {
    bool: "bool",
    float: "float",
    int: "int",
    str: "str",
    datetime: "time",
}


def dtype_of(python_type: Any) -> DType:
    """The logical type of a Python type; a logical type's name is passed through.

    Raises DefinitionError for any other type.
    """
    if isinstance(python_type, str) and python_type in SCALARS:
        return python_type
    try:
        return _PYTHON[python_type]
    except (KeyError, TypeError):
        name = getattr(python_type, "__name__", repr(python_type))
        raise DefinitionError(
            f"{name} is not a type of the feature language",
            "Use str, int, float, bool or datetime.",
        ) from None


def element_of(dtype: DType) -> DType:
    """The type of the elements of a list or the values of a map."""
    return dtype[dtype.index("<") + 1 : -1].removeprefix("str,")


def to_arrow(dtype: DType) -> pa.DataType:
    """The Arrow type that carries a logical type."""
    if dtype in SCALARS:
        return SCALARS[dtype]
    element = to_arrow(element_of(dtype))
    return pa.map_(pa.string(), element) if dtype.startswith("map<") else pa.list_(element)


def from_arrow(arrow: pa.DataType) -> DType:
    """The logical type of an Arrow type.

    Raises BadInput for a timestamp without a zone and for types outside the language.
    """
    if pa.types.is_timestamp(arrow):
        return _zoned(arrow)
    for accepts, dtype in _ARROW:
        if accepts(arrow):
            return dtype
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return f"list<{from_arrow(arrow.value_type)}>"
    if pa.types.is_map(arrow):
        return f"map<str,{from_arrow(arrow.item_type)}>"
    raise BadInput(f"Arrow type {arrow} is not one of the feature language", "Cast the column.")


def _zoned(arrow: pa.TimestampType) -> DType:
    if arrow.tz is None:
        raise BadInput(
            "a timestamp without a time zone is not accepted",
            "Say which zone it is in and store it as UTC.",
        )
    return "time"


def as_dtype(array: pa.Array | pa.ChunkedArray, dtype: DType) -> pa.Array:
    """The array in the one Arrow type of a logical type; nanoseconds are floored to µs.

    Raises BadInput if the array has another logical type, or integers beyond 64 bits.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    if array.type == to_arrow(dtype):
        return array
    if from_arrow(array.type) != dtype:
        raise BadInput(f"{array.type} is not {dtype}", "Values are never cast silently.")
    if dtype == "time" and array.type.unit == "ns":
        array = _floored_to_micros(array)
    try:
        return array.cast(to_arrow(dtype))
    except pa.ArrowInvalid as error:
        raise BadInput(f"values do not fit {dtype}: {error}", "Cast the column.") from None


def _floored_to_micros(array: pa.Array) -> pa.Array:
    nanoseconds = array.cast(pa.int64())
    whole = np.floor_divide(nanoseconds.fill_null(0).to_numpy(zero_copy_only=False), 1_000)
    nulls = nanoseconds.is_null().to_numpy(zero_copy_only=False)
    return pa.array(whole, mask=nulls).cast(SCALARS["time"])


def _is_dictionary_of_text(arrow: pa.DataType) -> bool:
    return pa.types.is_dictionary(arrow) and from_arrow(arrow.value_type) == "str"


_ARROW = (
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
    (pa.types.is_string, "str"),
    (pa.types.is_large_string, "str"),
    (pa.types.is_string_view, "str"),
    (_is_dictionary_of_text, "str"),
)
