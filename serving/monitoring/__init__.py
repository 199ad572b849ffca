"""What we learn from predictions: histograms, drift against the training reference, metrics."""

from serving.monitoring.drift import DriftPolicy, DriftReport, FeatureDrift, check, psi
from serving.monitoring.histograms import Histogram, decile_edges, histogram_of
from serving.monitoring.metrics import BatchedMetrics, MetricsExporter

__all__ = [
    "BatchedMetrics",
    "DriftPolicy",
    "DriftReport",
    "FeatureDrift",
    "Histogram",
    "MetricsExporter",
    "check",
    "decile_edges",
    "histogram_of",
    "psi",
]
