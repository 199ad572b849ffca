"""Where everything lies under ``TONDO_HOME``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The layout of a home directory; nothing is created by asking."""

    root: Path

    @property
    def lake(self) -> Path:
        """Iceberg warehouse and its catalog."""
        return self.root / "lake"

    @property
    def online(self) -> Path:
        """LMDB files of the online store."""
        return self.root / "online"

    @property
    def log(self) -> Path:
        """Event logs: ``<stream>/<partition>``."""
        return self.root / "log"

    @property
    def stream(self) -> Path:
        """Checkpoints of the stream workers."""
        return self.root / "stream"

    @property
    def gallery(self) -> Path:
        """Gallery's database."""
        return self.root / "gallery" / "gallery.db"

    @property
    def catalog(self) -> Path:
        """The catalog of resources and definitions."""
        return self.root / "control" / "catalog.db"

    @property
    def artifacts(self) -> Path:
        """Packages by digest."""
        return self.root / "artifacts"

    @property
    def keys(self) -> Path:
        """API keys by digest."""
        return self.root / "keys" / "keys.json"

    @property
    def operator_key(self) -> Path:
        """The command line's own key, mode 0600."""
        return self.root / "keys" / "operator"

    @property
    def run(self) -> Path:
        """What is running: pids, locks, the cluster record, logs."""
        return self.root / "run"

    @property
    def cluster(self) -> Path:
        """The record of the cluster that ``up`` started or joined."""
        return self.run / "cluster.json"

    @property
    def serving_state(self) -> Path:
        """What the replicas were last told to serve."""
        return self.run / "serving.json"

    @property
    def spool(self) -> Path:
        """Prediction records on their way to the lake."""
        return self.run / "predictions"

    @property
    def training(self) -> Path:
        """Folders of training runs."""
        return self.root / "runs"

    @property
    def training_sets(self) -> Path:
        """Joined training sets and their records."""
        return self.root / "training-sets"

    @property
    def erasures(self) -> Path:
        """Proofs of what was erased."""
        return self.root / "erasures"

    @property
    def reports(self) -> Path:
        """What commands wrote down for people."""
        return self.root / "reports"
