"""The OpenAI embeddings surface."""

from __future__ import annotations

import base64
import struct
from typing import Any

from genai_gateway.conversation import EmbeddingAnswer, EmbeddingRequest, Json
from genai_gateway.errors import BadRequest
from genai_gateway.reading import Fields

_MOST_INPUTS = 2048


def read_embedding(body: Json) -> EmbeddingRequest:
    """A request of ``POST /v1/embeddings``. Raises BadRequest."""
    fields = Fields(body)
    form = fields.text("encoding_format", "float")
    if form not in ("float", "base64"):
        raise fields.wrong("encoding_format", "float or base64", form)
    return EmbeddingRequest(
        model=fields.text("model"),
        inputs=_inputs(fields),
        dimensions=fields.integer("dimensions", least=1),
        base64=form == "base64",
        user=fields.text("user", ""),
        extra=fields.rest(),
    )


def embedding_data(answer: EmbeddingAnswer, request: EmbeddingRequest) -> Json:
    """The body of an answer, in the encoding that was asked for."""
    rows = [
        {"object": "embedding", "index": n, "embedding": _encoded(vector, request.base64)}
        for n, vector in enumerate(answer.vectors)
    ]
    usage = {"prompt_tokens": answer.usage.input, "total_tokens": answer.usage.input}
    return {"object": "list", "data": rows, "model": answer.model, "usage": usage}


def _inputs(fields: Fields) -> tuple[str | list[int], ...]:
    given = fields.any("input")
    if given is None:
        raise fields.missing("input")
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list) or not given:
        raise fields.wrong("input", "a text, or a list that is not empty", given)
    if len(given) > _MOST_INPUTS:
        raise BadRequest(f"{len(given):,} inputs are more than {_MOST_INPUTS:,}", "", "input")
    if all(_is_token(token) for token in given):
        return (given,)
    for n, value in enumerate(given):
        if not (isinstance(value, str) or _tokens(value)):
            raise fields.wrong(f"input[{n}]", "a text or a list of token numbers", value)
    return tuple(given)


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_token(token) for token in value)


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _encoded(vector: list[float] | str, as_base64: bool) -> list[float] | str:
    if isinstance(vector, str) == as_base64:
        return vector
    if isinstance(vector, str):
        raw = base64.b64decode(vector)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
