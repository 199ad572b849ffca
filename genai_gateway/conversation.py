"""The internal representation: one conversation, whoever asked and whoever answers.

Surfaces read requests into it and write answers from it; providers do the opposite. ``extra``
holds fields that only the request's own ``schema`` has a word for: a provider of that schema sends
them on as they are, any other refuses them by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Extra = Mapping[str, Any]


class _Nothing(dict[str, Any]):
    """An empty mapping that stays so: dataclasses take as a default only what can be hashed."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return 0

    def __setitem__(self, name: str, value: object) -> None:
        raise TypeError("the empty mapping cannot be changed")


NOTHING: Extra = _Nothing()

OPENAI_CHAT = "openai-chat"
OPENAI_COMPLETIONS = "openai-completions"
OPENAI_RESPONSES = "openai-responses"
ANTHROPIC = "anthropic"
GEMINI = "gemini"

Role = Literal["system", "developer", "user", "assistant", "tool"]
StopReason = Literal["stop", "length", "tools", "filter", "stop_sequence", "pause"]


@dataclass(frozen=True, slots=True)
class Text:
    """Words of somebody."""

    text: str
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound or a document, by URL or as base64 ``data`` of a ``media_type``."""

    kind: Literal["image", "audio", "document"]
    url: str = ""
    media_type: str = ""
    data: str = ""
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model's wish to call a tool; ``arguments`` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered."""

    call_id: str
    parts: tuple[Part, ...]
    failed: bool = False
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought before it answered; ``signature`` is its provider's seal."""

    text: str
    signature: str = ""
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class Refusal:
    """A model's own refusal to answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part that only ``schema`` has a word for, as it came."""

    schema: str
    data: Json


Part = Text | Media | ToolCall | ToolResult | Reasoning | Refusal | Opaque


@dataclass(frozen=True, slots=True)
class Message:
    """What one side said."""

    role: Role
    parts: tuple[Part, ...]
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask to call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: Extra = NOTHING
    strict: bool | None = None
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tool must be called: ``name`` if mode is ``one``."""

    mode: Literal["auto", "none", "any", "one"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The form the answer must have: any JSON, or JSON of a schema."""

    kind: Literal["json", "schema"]
    name: str = "answer"
    schema: Extra = NOTHING
    strict: bool | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One turn asked of a model. ``schema`` names the surface's schema."""

    schema: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool | Opaque, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: int = 1
    output: OutputFormat | None = None
    effort: str | None = None
    thinking_budget: int | None = None
    stream: bool = False
    stream_usage: bool = False
    user: str = ""
    metadata: Extra = NOTHING
    extra: Extra = NOTHING

    def parts(self) -> Iterator[Part]:
        """Every part of every message, those inside tool results too."""
        for message in self.messages:
            yield from parts_of(message.parts)


def parts_of(parts: tuple[Part, ...]) -> Iterator[Part]:
    """The parts, and behind each tool result what is in it."""
    for part in parts:
        yield part
        if isinstance(part, ToolResult):
            yield from parts_of(part.parts)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a turn. ``input`` includes the cached ones, ``output`` the reasoning ones."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """Input and output together."""
        return self.input + self.output

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.cache_written + other.cache_written,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of those that were asked for."""

    parts: tuple[Part, ...]
    stop: StopReason = "stop"
    stop_sequence: str = ""
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's whole answer; ``model`` is the name its provider gave."""

    id: str
    model: str
    created_s: int
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    schema: str = ""
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to be embedded; an input may also be a list of token numbers."""

    model: str
    inputs: tuple[str | list[int], ...]
    dimensions: int | None = None
    base64: bool = False
    user: str = ""
    extra: Extra = NOTHING


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    """One vector an input, as numbers, or as base64 of little-endian float32."""

    model: str
    vectors: tuple[list[float] | str, ...]
    usage: Usage = field(default_factory=Usage)
