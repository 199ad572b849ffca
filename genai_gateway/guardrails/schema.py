"""Answers held to the JSON schema that their request asked for."""

from __future__ import annotations

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from genai_gateway.conversation import Answer, ChatRequest, Json, Text
from genai_gateway.errors import BadRequest, Blocked
from genai_gateway.events import Event, Finished, TextDelta

_HINT = "Ask again, loosen the schema, or ask a model that keeps to schemas."


class SchemaCheck:
    """Checks the words of each choice; a choice that calls tools or was cut short is let be."""

    def __init__(self, schema: Json) -> None:
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise BadRequest(
                f"the schema for the answer is not a JSON schema: {error.message[:200]}",
                "Mend the schema.",
                "response_format",
            ) from None
        self._validator = Draft202012Validator(schema)
        self._words: dict[int, list[str]] = {}

    @classmethod
    def of(cls, request: ChatRequest) -> SchemaCheck | None:
        """The check that a request asks for; None if it names no form."""
        if request.output is None:
            return None
        return cls(dict(request.output.schema))

    def answer(self, answer: Answer) -> Answer:
        """The answer, if it keeps to the schema. Raises Blocked."""
        for choice in answer.choices:
            if choice.stop == "stop":
                self._check("".join(p.text for p in choice.parts if isinstance(p, Text)))
        return answer

    def event(self, event: Event) -> None:
        """Takes in a stream; where a choice ends, raises Blocked unless it keeps to the schema."""
        if isinstance(event, TextDelta):
            self._words.setdefault(event.choice, []).append(event.text)
        elif isinstance(event, Finished) and event.stop == "stop":
            self._check("".join(self._words.get(event.choice, [])))

    def keeps(self, text: str) -> bool:
        """Whether a text is JSON of the schema."""
        try:
            self._check(text)
        except Blocked:
            return False
        return True

    def _check(self, text: str) -> None:
        try:
            self._validator.validate(orjson.loads(text))
        except orjson.JSONDecodeError:
            raise Blocked("the model's answer is not JSON", _HINT) from None
        except ValidationError as error:
            place = "/".join(map(str, error.absolute_path)) or "its top"
            raise Blocked(
                f"the model's answer does not keep to the schema at {place} ({error.validator})",
                _HINT,
            ) from None
