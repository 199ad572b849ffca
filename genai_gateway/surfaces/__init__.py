"""The doors clients knock on: each reads requests of its schema and answers in it."""

from genai_gateway.surfaces.surface import StreamWriter, Surface

__all__ = ["StreamWriter", "Surface"]
