"""What each operation does to one value; both compiled forms answer to these.

Arguments are never null here: null handling belongs to the forms. ``None`` as a result is null;
ValueStateError is the state ``error``.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from features.dtypes import DType
from features.errors import ValueStateError

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
EARTH_RADIUS_KM = 6371.0088
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"(?i)[+-]?([0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?|inf|nan)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def checked_int(value: int) -> int:
    """The number, if 64 bits hold it; else ValueStateError."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise ValueStateError("integer overflow")


def floor(value: float) -> float:
    """The largest whole number not above, as a float; NaN and infinities stay."""
    return math.copysign(math.floor(value), value) if math.isfinite(value) else value


def ceil(value: float) -> float:
    """The smallest whole number not below, as a float; NaN and infinities stay."""
    return math.copysign(math.ceil(value), value) if math.isfinite(value) else value


def divide(a: float, b: float) -> float | None:
    """``a / b``; null for a zero divisor."""
    return a / b if b != 0 else None


def float_floordiv(a: float, b: float) -> float | None:
    """Python's ``a // b``; null for a zero divisor."""
    return a // b if b != 0 else None


def float_mod(a: float, b: float) -> float | None:
    """Python's ``a % b``, the remainder with the divisor's sign; null for a zero divisor."""
    return a % b if b != 0 else None


def int_floordiv(a: int, b: int) -> int | None:
    """Floor division; null for a zero divisor."""
    return checked_int(a // b) if b else None


def int_mod(a: int, b: int) -> int | None:
    """The remainder with the sign of the divisor; null for a zero divisor."""
    return a % b if b else None


def seconds_between(a: int, b: int) -> float:
    """The difference of two times in µs, as seconds."""
    return checked_int(a - b) / 1e6


def log(value: float) -> float | None:
    """The natural logarithm; null at and below zero."""
    if math.isnan(value):
        return value
    return math.log(value) if value > 0 else None


def sqrt(value: float) -> float | None:
    """The square root; null below zero."""
    if math.isnan(value):
        return value
    return math.sqrt(value) if value >= 0 else None


def geo_distance(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in km (haversine); NaN for coordinates that are not finite."""
    if not all(map(math.isfinite, (lat1, lon1, lat2, lon2))):
        return math.nan
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_dphi, half_dlambda = (phi2 - phi1) / 2, math.radians(lon2 - lon1) / 2
    a = math.sin(half_dphi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_dlambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(a)))


def month_and_day(days: Any) -> tuple[Any, Any]:
    """Month and day of day numbers since 1970, ints or arrays (Hinnant's civil_from_days)."""
    shifted = days + 719_468
    day_of_era = shifted % 146_097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    return (shifted_month + 2) % 12 + 1, day_of_year - (153 * shifted_month + 2) // 5 + 1


def clip(value: Any, low: Any, high: Any) -> Any:
    """The value within the bounds; NaN, which is in no order, stays."""
    if value < low:
        return low
    return high if value > high else value


def is_in(value: Any, *constants: Any) -> bool:
    """Whether the value equals one of the constants."""
    return any(value == constant for constant in constants)


def hash_bucket(value: str | int, buckets: int) -> int:
    """CRC-32 of the UTF-8 bytes (of a number: its decimal digits), modulo the buckets."""
    return zlib.crc32(str(value).encode()) % buckets


def _parse_bool(value: str) -> bool:
    if value in ("true", "false"):
        return value == "true"
    raise ValueStateError(f"{value!r} is not true or false")


def _parse_int(value: str) -> int:
    if not _INTEGER.fullmatch(value):
        raise ValueStateError(f"{value!r} is not a whole number")
    return checked_int(int(value))


def _parse_float(value: str) -> float:
    if not _NUMBER.fullmatch(value):
        raise ValueStateError(f"{value!r} is not a number")
    return float(value)


def _parse_time(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueStateError(f"{value!r} is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ValueStateError(f"{value!r} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _whole(value: float) -> int:
    if not math.isfinite(value) or value != math.floor(value):
        raise ValueStateError(f"{value!r} is not a whole number")
    return checked_int(int(value))


def _truth(value: int) -> bool:
    if value in (0, 1):
        return value == 1
    raise ValueStateError(f"{value} is neither 0 nor 1")


def _show_time(value: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise ValueStateError("the time lies outside the years 1 to 9999") from None


CASTS: dict[tuple[DType, DType], Callable[[Any], Any]] = {
    ("bool", "float"): float,
    ("bool", "int"): int,
    ("bool", "str"): lambda value: "true" if value else "false",
    ("float", "int"): _whole,
    ("float", "str"): repr,
    ("int", "bool"): _truth,
    ("int", "float"): float,
    ("int", "str"): str,
    ("int", "time"): int,
    ("str", "bool"): _parse_bool,
    ("str", "float"): _parse_float,
    ("str", "int"): _parse_int,
    ("str", "time"): _parse_time,
    ("time", "int"): int,
    ("time", "str"): _show_time,
}
