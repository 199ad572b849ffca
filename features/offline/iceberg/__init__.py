"""The lake as Apache Iceberg tables; nothing else of the room knows Iceberg."""

from features.offline.iceberg.lake import IcebergLake, LakeFile, StagedFiles
from features.offline.iceberg.tables import iceberg_bucket

__all__ = ["IcebergLake", "LakeFile", "StagedFiles", "iceberg_bucket"]
