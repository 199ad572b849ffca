"""The words of model servers: an adapter writes requests of a schema and reads its answers."""

from genai_gateway.providers.adapter import Adapter, Call, StreamReader

__all__ = ["Adapter", "Call", "StreamReader"]
