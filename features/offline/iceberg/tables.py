"""Our tables in Iceberg's terms: columns, buckets, order in files, and conditions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    LessThan,
    LessThanOrEqual,
)
from pyiceberg.io.pyarrow import _pyarrow_to_schema_without_ids, schema_to_pyarrow
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import IntegerType, LongType, StringType

from features.errors import BadInput
from features.offline.lake import Condition, TableSpec

_PUSHED = {
    "==": EqualTo,
    "<": LessThan,
    "<=": LessThanOrEqual,
    ">": GreaterThan,
    ">=": GreaterThanOrEqual,
    "in": In,
}


def iceberg_schema(table: TableSpec) -> Schema:
    """The columns of a table, numbered from 1."""
    return assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(table.schema))


def partition_spec(table: TableSpec, schema: Schema) -> PartitionSpec:
    """Hash buckets of one column, or none. Raises BadInput for a column that cannot be hashed."""
    if table.bucket_by is None:
        return UNPARTITIONED_PARTITION_SPEC
    column = schema.find_field(table.bucket_by)
    if not isinstance(column.field_type, (StringType, LongType, IntegerType)):
        raise BadInput(
            f"{table.name} cannot be bucketed by {table.bucket_by!r}, a {column.field_type}",
            "Bucket by a str or int column.",
        )
    transform: BucketTransform[Any] = BucketTransform(table.buckets)
    return PartitionSpec(
        PartitionField(
            source_id=column.field_id,
            field_id=1000,
            transform=transform,
            name=f"{table.bucket_by}_bucket",
        )
    )


def sort_order(table: TableSpec, schema: Schema) -> SortOrder:
    """The order of rows in every file, as the table says it."""
    if not table.sort_by:
        return UNSORTED_SORT_ORDER
    columns = [schema.find_field(name).field_id for name in table.sort_by]
    order = [SortField(source_id=column, transform=IdentityTransform()) for column in columns]
    return SortOrder(*order)


def spec_of(name: str, table: Table) -> TableSpec:
    """What an Iceberg table is in our terms."""
    schema = table.schema()
    order = tuple(str(schema.find_column_name(f.source_id)) for f in table.sort_order().fields)
    arrow = pa.schema([pa.field(f.name, _plain(f.type)) for f in _arrow_schema(schema)])
    for partition in table.spec().fields:
        if isinstance(partition.transform, BucketTransform):
            key = schema.find_column_name(partition.source_id)
            return TableSpec(name, arrow, key, partition.transform.num_buckets, order)
    return TableSpec(name, arrow, None, 0, order)


def _arrow_schema(schema: Schema) -> pa.Schema:
    return schema_to_pyarrow(schema, include_field_ids=False)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type as we write it: 32-bit offsets, Arrow's own names for the parts of lists."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def iceberg_bucket(values: pa.Array, buckets: int) -> pa.Array:
    """The bucket that Iceberg puts each key into, as int32; null for a null key.

    ``values`` are strings, integers or timestamps.
    """
    source = StringType() if pa.types.is_string(values.type) else LongType()
    return BucketTransform[Any](buckets).pyarrow_transform(source)(values)


def bucketed(spec: TableSpec, rows: pa.Table) -> Iterator[pa.Table]:
    """The rows in the order of the table's files, one part per bucket."""
    if spec.bucket_by is None:
        keys = [(name, "ascending") for name in spec.sort_by]
        yield from [rows.sort_by(keys) if keys else rows] if rows.num_rows else []
        return
    column = rows.column(spec.bucket_by).combine_chunks()
    bucket = pc.fill_null(iceberg_bucket(column, spec.buckets), -1)
    names = ["__bucket", *spec.sort_by]
    ordered = rows.select(spec.sort_by).add_column(0, "__bucket", bucket)
    order = pc.sort_indices(ordered, sort_keys=[(name, "ascending") for name in names])
    cuts = np.searchsorted(bucket.take(order).to_numpy(), np.arange(-1, spec.buckets + 1))
    for first, end in itertools.pairwise(cuts.tolist()):
        if end > first:
            yield rows.take(order.slice(first, end - first))


def pushed(where: Sequence[Condition]) -> BooleanExpression:
    """What Iceberg can prune by; the rows themselves are compared again after reading."""
    found: BooleanExpression = AlwaysTrue()
    for condition in where:
        if condition.operator in _PUSHED and not _is_nan(condition.value):
            found = And(found, _PUSHED[condition.operator](condition.column, condition.value))
    return found


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value
