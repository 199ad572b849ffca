"""Answers given before: scoped to a project by construction."""

from genai_gateway.caching.cache import AnswerCache, CacheKey, MemoryCache

__all__ = ["AnswerCache", "CacheKey", "MemoryCache"]
