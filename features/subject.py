"""One entity by its key, as it is met in tables and rows: under which columns, and which values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.definitions import FeatureService, ViewRole
from features.dtypes import to_arrow
from features.keys import key_bytes
from features.sources import Entity


@dataclass(frozen=True, slots=True)
class Subject:
    """An entity's key and the columns that may hold it.

    ``values`` are the parts of the key in their declared types (times in UTC µs), ``columns`` the
    column names of each part: those of the entity, then those of every role it plays.
    """

    entity: Entity
    values: tuple[Any, ...]
    columns: tuple[tuple[str, ...], ...]

    @classmethod
    def of(
        cls, entity: Entity, values: Sequence[Any], services: Iterable[FeatureService]
    ) -> Subject:
        """The subject under every name that these services have for its key."""
        roles = (view for service in services for view in service.views)
        made = cls(entity, tuple(values), (entity.keys,))
        return made.also(
            tuple(role.key.get(key, key) for key in entity.keys)
            for role in roles
            if isinstance(role, ViewRole) and made.is_part_of(role.view.entity)
        )

    def is_part_of(self, other: Entity) -> bool:
        """Whether the other entity's keys have the subject's among them: each is about it too."""
        parts = dict(zip(other.keys, other.types, strict=True))
        mine = zip(self.entity.keys, self.entity.types, strict=True)
        return all(parts.get(key) == dtype for key, dtype in mine)

    def also(self, columns: Iterable[tuple[str, ...]]) -> Subject:
        """The same subject under more column names."""
        return replace(self, columns=tuple(dict.fromkeys([*self.columns, *columns])))

    @property
    def key(self) -> bytes:
        """The key as stores know it."""
        found = key_bytes(self.values)
        assert found is not None, "a subject's key has no null part"
        return found

    def ways(self, schema: pa.Schema) -> tuple[tuple[str, ...], ...]:
        """Those of its column names that a table has, all parts in their types."""
        types = [to_arrow(dtype) for dtype in self.entity.types]
        return tuple(
            names
            for names in self.columns
            if all(
                name in schema.names and schema.field(name).type == kind
                for name, kind in zip(names, types, strict=True)
            )
        )

    def rows_of(self, rows: pa.Table) -> Any:
        """Which rows of a table are of this entity, as an array of booleans without nulls."""
        found = [self._equal(rows, names) for names in self.ways(rows.schema)]
        return reduce(pc.or_, found) if found else pa.repeat(False, rows.num_rows)

    def is_in(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of plain values is of this entity; a part may be written as text."""
        return any(
            all(_same(row.get(name), value) for name, value in zip(names, self.values, strict=True))
            for names in self.columns
        )

    def _equal(self, rows: pa.Table, names: Sequence[str]) -> Any:
        wanted = zip(names, self.values, self.entity.types, strict=True)
        parts = [
            pc.equal(rows.column(name), pa.scalar(value, to_arrow(dtype)))
            for name, value, dtype in wanted
        ]
        return pc.fill_null(reduce(pc.and_, parts), False)


def _same(found: Any, value: Any) -> bool:
    """Equal, or the text of the other: what came in another type is still about the entity."""
    return found is not None and (found == value or str(found) == str(value))
