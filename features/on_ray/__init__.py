"""The feature store's door to Ray: its long jobs on Ray Data."""

from features.on_ray.ingest import ingest_on_ray
from features.on_ray.join import join_on_ray

__all__ = ["ingest_on_ray", "join_on_ray"]
