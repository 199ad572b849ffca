"""Gallery: every model version ever made, what it came from, and which one is in use."""

from training.gallery.audit import AuditEntry
from training.gallery.data import from_data, move_from_data, to_data
from training.gallery.history import alias_at, aliases_of
from training.gallery.memory import MemoryGallery
from training.gallery.model_version import AliasMove, Lineage, Metric, ModelVersion
from training.gallery.port import Audit, Gallery
from training.gallery.reference import read_reference
from training.gallery.sqlite import SqliteGallery

__all__ = [
    "AliasMove",
    "Audit",
    "AuditEntry",
    "Gallery",
    "Lineage",
    "MemoryGallery",
    "Metric",
    "ModelVersion",
    "SqliteGallery",
    "alias_at",
    "aliases_of",
    "from_data",
    "move_from_data",
    "read_reference",
    "to_data",
]
