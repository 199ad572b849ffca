"""The GenAI Gateway: one front door to language models.

The door is empty but for the base of its errors: whoever imports one module of the room loads no
other. ``assembly.open_gateway`` puts a gateway together.
"""

from genai_gateway.errors import GatewayError

__all__ = ["GatewayError"]
