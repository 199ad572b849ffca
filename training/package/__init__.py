"""Packages: a model with everything needed to answer, and the runtimes that run it."""

from training.package.baseline import Baseline, Bins, bins_of
from training.package.columns import MatrixColumn, compile_rows, compile_table, matrix_columns
from training.package.digest import file_digest, tree_digest
from training.package.manifest import Manifest, Parity
from training.package.package import Package, load_package
from training.package.runtimes import Runtime, open_runtime
from training.package.validation import Validation, validate_in_child
from training.package.writer import PackageContent, write_package

__all__ = [
    "Baseline",
    "Bins",
    "Manifest",
    "MatrixColumn",
    "Package",
    "PackageContent",
    "Parity",
    "Runtime",
    "Validation",
    "bins_of",
    "compile_rows",
    "compile_table",
    "file_digest",
    "load_package",
    "matrix_columns",
    "open_runtime",
    "tree_digest",
    "validate_in_child",
    "write_package",
]
