"""What is written down about exchanges: audit, metrics, spans; never what was said."""

from genai_gateway.records.record import Record

__all__ = ["Record"]
