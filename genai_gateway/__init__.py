"""The GenAI Gateway: one front door to language models. Nothing lives here yet."""

__all__: list[str] = []
