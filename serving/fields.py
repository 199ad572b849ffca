"""The type of one incoming value: checked exactly, never guessed, refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

from features.errors import BadInput

INT64 = 1 << 63
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = 1_000_000

Convert = Callable[[object], object]

_JSON_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}

_EXAMPLES = {
    "int": "an integer such as 12, without quotes",
    "float": "a number such as 12.5, without quotes",
    "str": 'a string such as "AA"',
    "bool": "true or false",
    "time": 'a time with its offset such as "2013-11-02T17:05:00Z"',
}


@dataclass(frozen=True, slots=True)
class Field:
    """One expected value: its name, its type, and what JSON may say for it."""

    name: str
    dtype: str
    kinds: frozenset[type]
    convert: Convert | None


def field(name: str, dtype: str) -> Field:
    """Compiles the check of a field; ``null`` is a value of every type."""
    kinds, convert = _rule(dtype)
    return Field(name, dtype, frozenset({*kinds, type(None)}), convert)


def read_fields(
    fields: Sequence[Field], given: Mapping[str, object], what: str
) -> dict[str, object]:
    """Returns exactly the expected fields of ``given``; raises BadInput naming the first wrong one.

    ``what`` says what a field is called towards the user, such as ``entity key``.
    """
    values: dict[str, object] = {}
    for expected in fields:
        try:
            value = given[expected.name]
        except KeyError:
            raise _missing(expected, given, what) from None
        if type(value) not in expected.kinds:
            raise _wrong_type(expected, value, what)
        if expected.convert is not None and value is not None:
            value = _converted(expected, value, what)
        values[expected.name] = value
    if len(given) != len(values):
        raise _unknown(fields, given, what)
    return values


def parse_time(text: object, what: str = "time") -> int:
    """An RFC 3339 time with its offset, as UTC µs; a naive time is refused."""
    moment = _moment(text, what)
    if moment.tzinfo is None:
        raise BadInput(
            f"{what} {text!r} has no offset, so it names no point in time",
            "write the offset: 2013-11-02T17:05:00Z or 2013-11-02T12:05:00-05:00",
        )
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * _MICROSECOND + since.microseconds


def near_names(name: str, known: Sequence[str]) -> str:
    """A hint with the nearest known names, or with all of them when they are few."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    if not known:
        return "none is known yet"
    return "known: " + ", ".join(sorted(known)[:12])


def _moment(text: object, what: str) -> datetime:
    try:
        return datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadInput(f"{what} {text!r} is not a time", f"send {_EXAMPLES['time']}") from None


def _rule(dtype: str) -> tuple[tuple[type, ...], Convert | None]:
    if dtype.startswith("list<"):
        return (list,), _list_of(dtype[5:-1])
    if dtype.startswith("map<"):
        return (dict,), _map_of(dtype[4:-1].split(",", 1)[1].strip())
    return _SCALARS[dtype]


def _list_of(item: str) -> Convert:
    check = field("item", item)
    return lambda values: [_item(check, value) for value in values]  # type: ignore[attr-defined]


def _map_of(item: str) -> Convert:
    check = field("entry", item)
    return lambda values: {k: _item(check, v) for k, v in values.items()}  # type: ignore[attr-defined]


def _item(check: Field, value: object) -> object:
    if type(value) not in check.kinds:
        raise BadInput(f"one {check.name} is {_json_name(value)}")
    return check.convert(value) if check.convert is not None and value is not None else value


def _int64(value: object) -> object:
    if not -INT64 <= value < INT64:  # type: ignore[operator]
        raise BadInput("an integer beyond 64 bits")
    return value


def _float64(value: object) -> object:
    return float(value)  # type: ignore[arg-type]


_SCALARS: dict[str, tuple[tuple[type, ...], Convert | None]] = {
    "str": ((str,), None),
    "bool": ((bool,), None),
    "int": ((int,), _int64),
    "float": ((float, int), _float64),
    "time": ((str,), parse_time),
}


def _converted(expected: Field, value: object, what: str) -> object:
    assert expected.convert is not None
    try:
        return expected.convert(value)
    except (BadInput, OverflowError) as error:
        reason = error.what if isinstance(error, BadInput) else str(error)
        hint = (error.hint if isinstance(error, BadInput) else "") or _expects(expected)
        raise BadInput(f"{what} {expected.name!r}: {reason}", hint) from None


def _expects(expected: Field) -> str:
    return f"{expected.name} is of type {expected.dtype}: send " + _EXAMPLES.get(
        expected.dtype, f"a JSON value of type {expected.dtype}"
    )


def _json_name(value: object) -> str:
    return _JSON_NAMES.get(type(value), type(value).__name__)


def _wrong_type(expected: Field, value: object, what: str) -> BadInput:
    return BadInput(f"{what} {expected.name!r} is {_json_name(value)}", _expects(expected))


def _missing(expected: Field, given: Mapping[str, object], what: str) -> BadInput:
    near = get_close_matches(expected.name, list(given), n=1, cutoff=0.6)
    also = f"; {near[0]!r} was given, which is not known" if near else ""
    return BadInput(f"{what} {expected.name!r} is missing", _expects(expected) + also)


def _unknown(fields: Sequence[Field], given: Mapping[str, object], what: str) -> BadInput:
    known = [expected.name for expected in fields]
    name = next(name for name in given if name not in known)
    return BadInput(f"{what} {name!r} is not known", near_names(name, known))
