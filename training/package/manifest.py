"""What a package says about itself, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from features.errors import DamagedData
from features.plan import ServicePlan
from features.serial import from_data, to_data
from training.package.columns import MatrixColumn

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Parity:
    """Whether ONNX Runtime gives what the native library gives, and which of them is served.

    ``largest_difference`` is relative above 1 in magnitude, absolute below; None if not converted.
    """

    served: str
    rows: int
    largest_difference: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """A package's contents: the compiled service, the matrix's columns, the runtime to serve with.

    ``output`` names what a score is (``probability`` or ``value``). No time is in it: the same
    content has the same digest, whenever it was made.
    """

    family: str
    plan: ServicePlan
    columns: tuple[MatrixColumn, ...]
    framework: str
    framework_version: str
    objective: str
    output: str
    parity: Parity
    primary_metric: str

    def data(self) -> dict[str, Any]:
        """JSON-able data, for ``manifest_of``."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        columns = [[column.name, to_data(column.expr)] for column in self.columns]
        made = {"plan": to_data(self.plan), "columns": columns, "parity": asdict(self.parity)}
        return {"format": FORMAT, **plain, **made}


_PLAIN = (
    "family",
    "framework",
    "framework_version",
    "objective",
    "output",
    "primary_metric",
)


def manifest_of(data: Mapping[str, Any]) -> Manifest:
    """The manifest that ``data`` wrote; raises DamagedData for anything else."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise DamagedData(
            "this is not a package manifest of a format known here",
            "Was it made by a newer version? Upgrade, or train again.",
        )
    try:
        columns = tuple(MatrixColumn(name, from_data(expr)) for name, expr in data["columns"])
        plain = {name: data[name] for name in _PLAIN}
        plan, parity = from_data(data["plan"]), Parity(**data["parity"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedData(f"the package manifest is incomplete: {error}") from error
    return Manifest(plan=plan, columns=columns, parity=parity, **plain)
