"""Values outside Arrow: brought to the Python form that rows, defaults and literals share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from features.dtypes import DType, element_of
from features.errors import BadInput
from features.expressions import fits, micros


def checked_value(place: str, value: Any, dtype: DType) -> Any:
    """The value as rows carry it: null is None, a time is µs, an int may stand for a float.

    Raises BadInput for a value of another type; nothing is cast.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if dtype.startswith("list<") and isinstance(value, (list, tuple)):
        return [checked_value(place, item, element_of(dtype)) for item in value]
    if dtype.startswith("map<") and isinstance(value, Mapping):
        return {k: checked_value(place, v, element_of(dtype)) for k, v in value.items()}
    if dtype in _FORMS and _FORMS[dtype][0](value):
        return _FORMS[dtype][1](value)
    raise BadInput(f"{place}: {value!r} is not {dtype}", f"Give a value of type {dtype}.")


def _is_int(value: Any) -> bool:
    return type(value) is int and fits(value)


def _micros(value: Any) -> int:
    return micros(value) if isinstance(value, datetime) else int(value)


_FORMS: dict[DType, tuple[Callable[[Any], bool], Callable[[Any], Any]]] = {
    "bool": (lambda value: isinstance(value, bool), bool),
    "float": (lambda value: isinstance(value, float) or _is_int(value), float),
    "int": (_is_int, int),
    "str": (lambda value: isinstance(value, str), str),
    "time": (lambda value: isinstance(value, datetime) or _is_int(value), _micros),
}
