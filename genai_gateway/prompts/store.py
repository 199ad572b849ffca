"""Prompts in a folder: ``NAME/VERSION.json``, written once, never changed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import orjson

from genai_gateway.errors import BadRequest, NotFound
from genai_gateway.prompts.template import PromptTemplate, read_template

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


class PromptStore:
    """Versions of prompts. A version's number is the one after the last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Every prompt that has a version."""
        return sorted(p.name for p in self._folder.glob("*") if any(p.glob("*.json")))

    def versions(self, name: str) -> list[int]:
        """The versions of a prompt, oldest first."""
        folder = self._folder / _checked(name)
        return sorted(int(path.stem) for path in folder.glob("*.json"))

    def add(self, name: str, data: Any) -> PromptTemplate:
        """A new version; the last one is returned if the content is the same. Raises BadRequest."""
        versions = self.versions(name)
        number = versions[-1] + 1 if versions else 1
        template = read_template(name, number, data)
        if versions:
            last = self.get(name, versions[-1])
            if last.digest == template.digest:
                return last
        path = self._folder / name / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(data, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        return template

    def get(self, name: str, version: int = 0) -> PromptTemplate:
        """A version of a prompt, the newest without a number. Raises NotFound."""
        versions = self.versions(name)
        number = version or (versions[-1] if versions else 0)
        path = self._folder / name / f"{number}.json"
        if not path.exists():
            raise NotFound(
                f"there is no prompt {name}@{version or 'newest'}",
                f"There are: {', '.join(self.names()) or 'none'}.",
            )
        return read_template(name, number, orjson.loads(path.read_bytes()))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadRequest(f"{name!r} cannot name a prompt", "Use lower case letters, digits, _ . -")
    return name
