"""Rows removed from a table's whole history: data files, manifests and metadata written anew.

Iceberg can delete rows from what a table is now; every older snapshot then still has them, and so
have the bounds in its manifests. Here each snapshot keeps its id and gets files without the rows.
New files first, then the catalog's row moves from the old metadata to the new one by
compare-and-set, then every file that the new metadata does not know is removed. A crash before the
move leaves the old table, one after it the new; the next erasure removes what is left over.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import (
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot, Summary

from features.errors import Conflict
from features.offline.lake import Erased, Matcher, Told

Read: TypeAlias = Callable[[DataFile, Sequence[str] | None], pa.Table]
"""The rows of a data file, with some columns or all."""


class Erasure:
    """One erasure of one table, by whoever keeps all others out of it."""

    def __init__(self, table: Table, catalog: Path, told: Told) -> None:
        self._table = table
        self._catalog = catalog
        self._told = told
        self._id = uuid.uuid4()
        self._numbers = itertools.count()
        self._folder = Path(_local(table.location()))
        # What stands for each data file that holds such rows: one without them, or nothing.
        self._replaced: dict[str, list[DataFile]] = {}
        self._manifests: dict[str, ManifestFile | None] = {}
        self._current = table.metadata_location

    def run(self, columns: Sequence[str], matches: Matcher, read: Read) -> Erased:
        """Removes the rows; raises Conflict if somebody commits meanwhile."""
        self._told("look")
        files = self._data_files()
        holding = dict(self._looked(files, columns, matches, read))
        rows = sum(pc.sum(mask).as_py() for mask in holding.values())
        metadata = self._table.metadata
        if holding:
            self._told("rewrite")
            for path, mask in holding.items():
                self._replaced[path] = self._rewritten(read(files[path], None), mask)
            metadata = self._renewed(metadata)
        self._told("sweep")
        removed = self._sweep(metadata)
        return Erased(rows, len(files), len(removed), sum(removed))

    def _data_files(self) -> dict[str, DataFile]:
        """The data files of every snapshot, by path."""
        return {entry.data_file.file_path: entry.data_file for entry in self._entries()}

    def _entries(self) -> Iterable[ManifestEntry]:
        seen: set[str] = set()
        for snapshot in self._table.snapshots():
            for manifest in snapshot.manifests(self._table.io):
                if manifest.manifest_path not in seen:
                    seen.add(manifest.manifest_path)
                    yield from manifest.fetch_manifest_entry(self._table.io, discard_deleted=False)

    def _looked(
        self, files: dict[str, DataFile], columns: Sequence[str], matches: Matcher, read: Read
    ) -> Iterable[tuple[str, Any]]:
        for path, data in files.items():
            mask = matches(read(data, columns))
            if pc.any(mask).as_py():
                yield path, mask

    def _rewritten(self, rows: pa.Table, mask: Any) -> list[DataFile]:
        kept = rows.filter(pc.invert(mask))
        if not kept.num_rows:
            return []
        table = self._table
        return list(
            _dataframe_to_data_files(table.metadata, kept, table.io, self._id, self._numbers)
        )

    def _renewed(self, old: TableMetadata) -> TableMetadata:
        """Writes new manifests and metadata, and makes the catalog point there."""
        snapshots = [self._renewed_snapshot(snapshot) for snapshot in old.snapshots]
        new = old.model_copy(
            update={
                "snapshots": snapshots,
                "metadata_log": [],
                "last_updated_ms": max(old.last_updated_ms, time.time_ns() // 1_000_000),
            }
        )
        location = self._metadata_location()
        ToOutputFile.table_metadata(new, self._table.io.new_output(location))
        self._sync()
        self._told("commit")
        self._point_to(location)
        return new

    def _sync(self) -> None:
        """Brings what is new to the disk: what it stands for is removed soon."""
        written = list(self._folder.rglob(f"*{self._id}*"))
        for path in [*written, *{path.parent for path in written}]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _metadata_location(self) -> str:
        name = self._table.metadata_location.rpartition("/")[2]
        number = int(name.partition("-")[0]) + 1
        return self._metadata_path(f"{number:05d}-{self._id}.metadata.json")

    def _metadata_path(self, name: str) -> str:
        return f"{self._table.location()}/metadata/{name}"

    def _renewed_snapshot(self, snapshot: Snapshot) -> Snapshot:
        old = snapshot.manifests(self._table.io)
        new = [found for manifest in old if (found := self._renewed_manifest(manifest)) is not None]
        if [m.manifest_path for m in new] == [m.manifest_path for m in old]:
            return snapshot
        location = self._metadata_path(f"snap-{snapshot.snapshot_id}-0-{self._id}.avro")
        with write_manifest_list(
            format_version=self._table.metadata.format_version,
            output_file=self._table.io.new_output(location),
            snapshot_id=snapshot.snapshot_id,
            parent_snapshot_id=snapshot.parent_snapshot_id,
            sequence_number=snapshot.sequence_number,
            avro_compression="gzip",
        ) as writer:
            writer.add_manifests(new)
        return snapshot.model_copy(
            update={"manifest_list": location, "summary": self._counted(snapshot, new)}
        )

    def _renewed_manifest(self, manifest: ManifestFile) -> ManifestFile | None:
        """The manifest if none of its files changed, else a new one; None if nothing is left."""
        path = manifest.manifest_path
        if path not in self._manifests:
            entries = manifest.fetch_manifest_entry(self._table.io, discard_deleted=False)
            if any(entry.data_file.file_path in self._replaced for entry in entries):
                self._manifests[path] = self._written(manifest, entries)
            else:
                self._manifests[path] = manifest
        return self._manifests[path]

    def _written(
        self, manifest: ManifestFile, entries: Sequence[ManifestEntry]
    ) -> ManifestFile | None:
        renewed = [new for entry in entries for new in self._renewed_entries(entry)]
        if not renewed:
            return None
        table = self._table
        location = self._metadata_path(f"{self._id}-m{next(self._numbers)}.avro")
        with write_manifest(
            format_version=table.metadata.format_version,
            spec=table.specs()[manifest.partition_spec_id],
            schema=table.schema(),
            output_file=table.io.new_output(location),
            snapshot_id=manifest.added_snapshot_id or 0,
            avro_compression="gzip",
        ) as writer:
            for entry in renewed:
                writer.add_entry(entry)
        written = writer.to_manifest_file()
        written.sequence_number = manifest.sequence_number
        written.min_sequence_number = manifest.min_sequence_number
        return written

    def _renewed_entries(self, entry: ManifestEntry) -> list[ManifestEntry]:
        files = self._replaced.get(entry.data_file.file_path, [entry.data_file])
        return [
            ManifestEntry.from_args(
                status=entry.status,
                snapshot_id=entry.snapshot_id,
                sequence_number=entry.sequence_number,
                file_sequence_number=entry.file_sequence_number,
                data_file=file,
            )
            for file in files
        ]

    def _counted(self, snapshot: Snapshot, manifests: Sequence[ManifestFile]) -> Summary | None:
        """The snapshot's summary with the counts of what it has now."""
        summary = snapshot.summary
        if summary is None:
            return None
        entries = [e for m in manifests for e in m.fetch_manifest_entry(self._table.io)]
        added = [
            entry.data_file
            for entry in entries
            if entry.status == ManifestEntryStatus.ADDED
            and entry.snapshot_id == snapshot.snapshot_id
        ]
        counts = _counts("added", added) | _counts("total", [e.data_file for e in entries])
        told = dict(summary.additional_properties)
        told |= {name: count for name, count in counts.items() if name in told}
        return Summary(operation=summary.operation, **told)

    def _point_to(self, location: str) -> None:
        """Moves the catalog from the metadata that was read to the new one."""
        namespace, _, name = ".".join(self._table.name()).rpartition(".")
        with closing(sqlite3.connect(self._catalog, timeout=30)) as catalog, catalog:
            moved = catalog.execute(
                "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = NULL"
                " WHERE table_namespace = ? AND table_name = ? AND metadata_location = ?",
                (location, namespace, name, self._table.metadata_location),
            )
        if moved.rowcount != 1:
            raise Conflict(f"others committed to {namespace}.{name}", "Run the same again.")
        self._current = location

    def _sweep(self, metadata: TableMetadata) -> list[int]:
        """Removes every file of the table that its metadata does not know; their sizes."""
        known = self._known(metadata)
        removed = []
        for path in sorted(self._folder.rglob("*")):
            if path.is_file() and str(path) not in known:
                removed.append(path.stat().st_size)
                path.unlink(missing_ok=True)
        return removed

    def _known(self, metadata: TableMetadata) -> set[str]:
        paths = {self._current, *(entry.metadata_file for entry in metadata.metadata_log)}
        for snapshot in metadata.snapshots:
            paths.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(self._table.io):
                paths.add(manifest.manifest_path)
                entries = manifest.fetch_manifest_entry(self._table.io, discard_deleted=False)
                paths |= {entry.data_file.file_path for entry in entries}
        return {_local(path) for path in paths}


def _counts(kind: str, files: Sequence[DataFile]) -> dict[str, str]:
    return {
        f"{kind}-records": str(sum(file.record_count for file in files)),
        f"{kind}-data-files": str(len(files)),
        f"{kind}-files-size": str(sum(file.file_size_in_bytes for file in files)),
    }


def _local(location: str) -> str:
    return location.removeprefix("file://")
