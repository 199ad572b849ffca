"""A prompt as data: messages with holes, and a type for what goes into each hole.

A template is text with ``{{name}}`` in it and nothing else: no expressions, no loops, no code. What
is filled in is never read as a template again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from genai_gateway.conversation import Json
from genai_gateway.errors import BadRequest
from genai_gateway.reading import Fields

Type = Literal["text", "number", "integer", "boolean", "json"]
_HOLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_TYPES: dict[Type, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "json": (dict, list, str, int, float, bool),
}


@dataclass(frozen=True, slots=True)
class Variable:
    """What a hole takes. ``feature`` names a feature that fills it where the caller does not."""

    name: str
    type: Type = "text"
    default: Any = None
    feature: str = ""
    longest: int = 100_000

    def written(self, value: Any) -> str:
        """The value as it stands in the prompt. Raises BadRequest for another type."""
        kinds = _TYPES[self.type]
        wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        if wrong:
            raise BadRequest(
                f"the variable {self.name} must be {self.type}, not {type(value).__name__}",
                f"Send {self.name} as {self.type}.",
                f"variables.{self.name}",
            )
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if len(text) > self.longest:
            raise BadRequest(
                f"the variable {self.name} has {len(text):,} characters, more than"
                f" {self.longest:,}",
                "Shorten it.",
                f"variables.{self.name}",
            )
        return text


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One version of a prompt; ``digest`` names its content."""

    name: str
    version: int
    model: str
    messages: tuple[tuple[str, str], ...]
    variables: tuple[Variable, ...]
    settings: Json

    @property
    def digest(self) -> str:
        """SHA-256 of everything that changes what a model is asked."""
        body = (self.model, self.messages, self.variables, self.settings)
        raw = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(raw).hexdigest()

    @property
    def features(self) -> dict[str, str]:
        """The features that fill holes: variable to feature reference."""
        return {v.name: v.feature for v in self.variables if v.feature}

    def fill(self, values: Mapping[str, Any]) -> Json:
        """The body of a chat request. Raises BadRequest: missing, unknown or wrongly typed."""
        known = {variable.name for variable in self.variables}
        for name in values:
            if name not in known:
                raise BadRequest(
                    f"{self.name} has no variable {name}",
                    f"It has {', '.join(sorted(known)) or 'none'}.",
                    f"variables.{name}",
                )
        texts = {v.name: v.written(self._value(v, values)) for v in self.variables}
        messages = [
            {"role": role, "content": _HOLE.sub(lambda hole: texts[hole[1]], text)}
            for role, text in self.messages
        ]
        return {**self.settings, "model": self.model, "messages": messages}

    def _value(self, variable: Variable, values: Mapping[str, Any]) -> Any:
        value = values.get(variable.name, variable.default)
        if value is None:
            raise BadRequest(
                f"the variable {variable.name} of {self.name} is missing",
                f"Send {variable.name} as {variable.type}.",
                f"variables.{variable.name}",
            )
        return value


def read_template(name: str, version: int, data: Any) -> PromptTemplate:
    """A template from data. Raises BadRequest, naming the place."""
    fields = Fields(data, f"{name}@{version}")
    variables = tuple(
        _variable(each, Fields(entry, fields.place(f"variables.{each}")))
        for each, entry in fields.mapping("variables", {}).items()
    )
    place = fields.place("messages")
    messages = tuple(
        _message(Fields(entry, f"{place}[{n}]")) for n, entry in enumerate(fields.items("messages"))
    )
    template = PromptTemplate(
        name=name,
        version=version,
        model=fields.text("model"),
        messages=messages,
        variables=variables,
        settings=fields.mapping("settings", {}),
    )
    for rest in fields.rest():
        raise fields.wrong(rest, "left out, for it is not a setting of prompts", "there")
    holes = {hole for _, text in messages for hole in _HOLE.findall(text)}
    declared = {variable.name for variable in variables}
    if holes != declared:
        odd = ", ".join(sorted(holes ^ declared))
        raise BadRequest(
            f"{name}@{version}: holes and variables differ: {odd}",
            "Declare each hole, and use each variable.",
            "variables",
        )
    return template


def _variable(name: str, fields: Fields) -> Variable:
    kind = fields.text("type", "text")
    if kind not in get_args(Type):
        raise fields.wrong("type", ", ".join(get_args(Type)), kind)
    variable = Variable(
        name,
        kind,  # type: ignore[arg-type]
        fields.any("default"),
        fields.text("feature", ""),
        fields.integer("longest", least=1) or 100_000,
    )
    for rest in fields.rest():
        raise fields.wrong(rest, "left out, for it is not a setting of variables", "there")
    return variable


def _message(fields: Fields) -> tuple[str, str]:
    role = fields.text("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise fields.wrong("role", "system, developer, user or assistant", role)
    return role, fields.text("content")
