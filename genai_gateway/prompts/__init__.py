"""Prompts as versioned, typed templates, and evaluations that compare their versions."""

from genai_gateway.prompts.template import PromptTemplate, Variable, read_template

__all__ = ["PromptTemplate", "Variable", "read_template"]
