"""Resources: what people want, as data, whether written in YAML or made in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from app.control.specs import SPECS, checked_spec
from app.errors import BadInput
from features.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    RequestView,
    Source,
)
from features.fingerprint import fingerprint_of, meaning
from features.naming import did_you_mean
from features.serial import canonical, from_data, to_data

API_VERSION = "tondo/v1"
DEFINITIONS: Mapping[str, type] = {
    "Entity": Entity,
    "FeatureService": FeatureService,
    "FeatureView": FeatureView,
    "RequestView": RequestView,
    "Source": Source,
}
KINDS = tuple(sorted([*DEFINITIONS, *SPECS]))
WRITTEN = ("Deployment", "Monitor", "Project", "Rule")
_WRITABLE = f"In YAML you can write: {', '.join(WRITTEN)}."
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_PARTS = frozenset({"apiVersion", "kind", "metadata", "spec"})
_METADATA = frozenset({"name", "owner", "description", "labels", "project"})


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that should be: its kind and name, its spec, and what is said about it.

    A definition's spec is ``{"definition": data}``. ``origin`` is the file it was read from.
    """

    kind: str
    name: str
    spec: Mapping[str, Any]
    owner: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    project: str = ""
    origin: str = ""

    @property
    def address(self) -> str:
        """``Kind/name``."""
        return f"{self.kind}/{self.name}"

    @property
    def definition(self) -> Definition | None:
        """The feature definition, for kinds that are one."""
        found: Definition | None = from_data(self.spec.get("definition"))
        return found

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of what the resource means."""
        return fingerprint_of(self._definition_or_spec())

    def same_meaning(self, other: Resource) -> bool:
        """Whether both ask for the same, whatever is said about it."""
        return self._meaning() == other._meaning()

    def same_text(self, other: Resource) -> bool:
        """Whether everything is the same, what is said about it included."""
        return self._text() == other._text()

    def _definition_or_spec(self) -> Any:
        return self.definition or dict(self.spec)

    def _meaning(self) -> bytes:
        return canonical(meaning(self._definition_or_spec()))

    def _text(self) -> bytes:
        about = [self.owner, self.description, dict(self.labels), self.project, self.origin]
        return canonical([dict(self.spec), *about])


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is true or not about a resource, told to its owner and to the operator.

    ``at`` is when it last changed, UTC µs.
    """

    type: str
    status: bool
    reason: str
    message: str
    operator_message: str = ""
    hint: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """What the platform found; written by the platform alone."""

    observed_generation: int = 0
    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    def condition(self, type: str) -> Condition | None:
        """The condition of that type, if it was ever judged."""
        return next((c for c in self.conditions if c.type == type), None)


@dataclass(frozen=True, slots=True)
class Stored:
    """A resource as the catalog keeps it.

    ``generation`` counts changes of meaning, ``version`` every change. Times are UTC µs.
    """

    resource: Resource
    generation: int
    version: int
    created_at: int
    updated_at: int
    status: Status = field(default_factory=Status)


def of_definition(definition: Definition, origin: str = "") -> Resource:
    """The resource of a feature definition."""
    return Resource(
        kind=type(definition).__name__,
        name=definition.name,
        spec={"definition": to_data(definition)},
        owner=getattr(definition, "owner", ""),
        description=definition.description,
        origin=origin,
    )


def make(kind: str, name: str, spec: Mapping[str, Any], **more: Any) -> Resource:
    """A resource of a kind that is not a feature definition, checked. Raises BadInput."""
    if kind not in SPECS:
        raise _unknown_kind(kind)
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{kind}: {name!r} cannot be a name", "Use letters, digits, '.', '_' and '-'."
        )
    return Resource(kind, name, checked_spec(kind, name, spec), **more)


def read_yaml(text: str, where: str) -> list[Resource]:
    """The resources of a YAML text, one a document. Raises BadInput with the place."""
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as error:
        raise BadInput(f"{where} is not YAML: {error}", "Mend the place that it names.") from None
    return [_of_document(document, where) for document in documents]


def kind_of(text: str) -> str:
    """The kind that is meant: any case, singular or plural, with or without dashes."""
    wanted = re.sub(r"[-_ ]", "", text).lower()
    for kind in KINDS:
        lower = kind.lower()
        if wanted in (lower, f"{lower}s", f"{lower.removesuffix('y')}ies", f"{lower}es"):
            return kind
    raise _unknown_kind(text)


def _of_document(document: Any, where: str) -> Resource:
    if not isinstance(document, Mapping):
        raise BadInput(f"{where}: a resource is a mapping", "Start with apiVersion: tondo/v1.")
    if document.get("apiVersion") != API_VERSION:
        raise BadInput(
            f"{where}: apiVersion is {document.get('apiVersion')!r}", f"Write {API_VERSION}."
        )
    unknown = [key for key in document if key not in _PARTS]
    if unknown:
        raise BadInput(
            f"{where}: {unknown[0]!r} does not belong in a resource",
            "Known: apiVersion, kind, metadata, spec; the status is the platform's.",
        )
    return _of_parts(str(document.get("kind")), document, where)


def _of_parts(kind: str, document: Mapping[str, Any], where: str) -> Resource:
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    if kind not in WRITTEN:
        raise _not_written(kind, where)
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise BadInput(f"{where}: {kind} has no metadata.name", "Give it a name.")
    _check_metadata(metadata, where)
    if not isinstance(spec, Mapping) or not all(isinstance(key, str) for key in spec):
        raise BadInput(f"{where}: {kind} has a spec that is not a mapping of names", _EXAMPLE)
    about = {key: value for key, value in metadata.items() if key != "name"}
    about.setdefault("owner", spec.get("owner", ""))
    try:
        return make(kind, metadata["name"], spec, **about, origin=where)
    except BadInput as error:
        raise BadInput(f"{where}: {error.what}", error.hint) from None


_EXAMPLE = "Write for example spec: {tier: 2}."


def _check_metadata(metadata: Mapping[Any, Any], where: str) -> None:
    """Refuses fields that are not known, and values that are not text."""
    for key, value in metadata.items():
        if key not in _METADATA:
            hint = did_you_mean(str(key), _METADATA, "fields")
            raise BadInput(f"{where}: metadata.{key} is not known", hint)
        if key == "labels":
            _check_labels(value, where)
        elif not isinstance(value, str):
            raise BadInput(f"{where}: metadata.{key} is {value!r}, not text", "Put it in quotes.")


def _check_labels(labels: Any, where: str) -> None:
    pairs = labels.items() if isinstance(labels, Mapping) else [(None, labels)]
    for key, value in pairs:
        if not (isinstance(key, str) and isinstance(value, str)):
            raise BadInput(
                f"{where}: metadata.labels holds {value!r}: labels are text by name",
                'Write for example labels: {team: eta, year: "2013"}.',
            )


def _not_written(kind: str, where: str) -> BadInput:
    if kind in DEFINITIONS:
        return BadInput(
            f"{where}: the kind {kind} is not written in YAML", "Define it in definitions.py."
        )
    if kind in KINDS:
        return BadInput(f"{where}: the kind {kind} is made by the platform, not written", _WRITABLE)
    error = _unknown_kind(kind)
    return BadInput(f"{where}: {error.what}", error.hint)


def _unknown_kind(kind: str) -> BadInput:
    return BadInput(f"there is no kind {kind!r}", did_you_mean(kind, KINDS, "kinds"))
