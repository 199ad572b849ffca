"""A feature service compiled for requests: everything choosable is chosen when a model loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from features.errors import BadInput
from features.plan import ServicePlan
from serving.fields import EPOCH, Field, field, read_fields
from serving.requests import Request, Row


@dataclass(frozen=True, slots=True)
class RequestShape:
    """Which keys and fields a request must carry, of which types, and what comes back."""

    service: str
    keys: tuple[Field, ...]
    fields: tuple[Field, ...]
    outputs: tuple[str, ...]
    dtypes: tuple[str, ...]
    roles: tuple[str, ...]
    times: frozenset[int]
    replay: bool

    def rows(self, request: Request) -> list[dict[str, object]]:
        """Keys and request fields of every row, merged and of the declared types."""
        return [self._row(row) for row in request.rows]

    def time(self, request: Request, now: int) -> int:
        """The time the request is answered for; only a replay service lets a request name it."""
        if request.at is None:
            return now
        if not self.replay:
            raise BadInput(
                f'service {self.service!r} runs on the wall clock, so "at" cannot be given',
                'leave "at" out, or define the service with clock="replay"',
            )
        return request.at

    def named(self, values: Sequence[object]) -> dict[str, object]:
        """The features by column name, times written as RFC 3339."""
        return {
            name: _written(value) if i in self.times else value
            for i, (name, value) in enumerate(zip(self.outputs, values, strict=True))
        }

    def _row(self, row: Row) -> dict[str, object]:
        merged = read_fields(self.keys, row.entities, "entity key")
        merged.update(read_fields(self.fields, row.request, "request field"))
        return merged


def request_shape(plan: ServicePlan) -> RequestShape:
    """The request side of a service plan."""
    keys = plan.key_columns
    fields = {name: t for name, t in plan.request_columns.items() if name not in keys}
    return RequestShape(
        service=plan.name,
        keys=_compiled(keys),
        fields=_compiled(fields),
        outputs=tuple(output.column for output in plan.outputs),
        dtypes=tuple(output.dtype for output in plan.outputs),
        roles=tuple(output.view for output in plan.outputs),
        times=frozenset(i for i, output in enumerate(plan.outputs) if output.dtype == "time"),
        replay=plan.clock == "replay",
    )


def _compiled(types: Mapping[str, str]) -> tuple[Field, ...]:
    return tuple(field(name, dtype) for name, dtype in types.items())


def _written(value: object) -> object:
    return written_time(value) if isinstance(value, int) else value


def written_time(moment: int) -> str:
    """UTC µs as RFC 3339."""
    return (EPOCH + timedelta(microseconds=moment)).isoformat()
