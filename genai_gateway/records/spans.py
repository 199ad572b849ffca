"""OpenTelemetry spans by the GenAI conventions, without any prompt or answer.

The conventions have no stable names yet: all of them stand here and nowhere else.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from genai_gateway.records.record import ANSWERED, Record

_NS_PER_US = 1_000
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"


class SpanRecorder:
    """Turns records into spans, after the fact: a span costs nothing while tokens flow."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("tondo.llm")

    def record(self, record: Record) -> None:
        """Makes one span, from the request's arrival to its end."""
        span = self._tracer.start_span(
            f"chat {record.model}", kind=SpanKind.CLIENT, start_time=record.at * _NS_PER_US
        )
        if span.is_recording():
            provider, _, model = record.served.partition("/")
            span.set_attributes(
                {
                    OPERATION: "chat",
                    PROVIDER: provider,
                    REQUEST_MODEL: record.model,
                    RESPONSE_MODEL: model,
                    INPUT_TOKENS: record.usage.input,
                    OUTPUT_TOKENS: record.usage.output,
                    "tondo.request_id": record.id,
                    "tondo.project": record.project,
                    "tondo.outcome": record.outcome,
                    "tondo.policy": (record.scanned or {}).get("policy", ""),
                    "tondo.cost_nano_usd": record.cost_nano_usd,
                    "tondo.attempts": record.attempts,
                }
            )
            if record.outcome != ANSWERED:
                span.set_attribute("error.type", record.error)
                span.set_status(StatusCode.ERROR, record.outcome)
        span.end(record.finished * _NS_PER_US)
