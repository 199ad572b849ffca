"""The report of a demo: what each step did, how long it took, and whether it held."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from app.errors import TondoError

Data = dict[str, Any]


class Result(Protocol):
    """What a step gives back: a dataclass of JSON-able fields."""

    @property
    def held(self) -> bool:
        """Whether everything that the step promises is true."""
        ...

    @property
    def lines(self) -> Sequence[str]:
        """What happened, for people."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it was; ``data`` has its numbers, ``seconds`` what it took."""

    name: str
    held: bool
    lines: tuple[str, ...]
    seconds: float
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """All steps; ``peak_bytes`` is the most memory that all processes together held."""

    steps: tuple[Step, ...]
    seconds: float
    peak_bytes: int

    @property
    def held(self) -> bool:
        """Whether every step held."""
        return bool(self.steps) and all(step.held for step in self.steps)

    @property
    def verdict(self) -> str:
        """The last line: whether all held, how long, how much memory."""
        lost = [step.name for step in self.steps if not step.held]
        told = f"these steps did not hold: {', '.join(lost)}" if lost else "every step held"
        return f"{told}; {self.seconds / 60:.1f} minutes, peak memory {gigabytes(self.peak_bytes)}"

    def data(self) -> Data:
        """JSON-able data."""
        return {
            "held": self.held,
            "seconds": round(self.seconds, 3),
            "peakMemoryBytes": self.peak_bytes,
            "environment": {"machine": platform.machine(), "cpus": os.cpu_count()},
            "steps": [asdict(step) for step in self.steps],
        }


def step_of(name: str, result: Result, seconds: float) -> Step:
    """The step that ended with a result."""
    numbers: Data = asdict(result)  # type: ignore[call-overload]
    return Step(name, result.held, tuple(result.lines), seconds, numbers)


def failed(name: str, error: Exception, seconds: float) -> Step:
    """The step that an error ended."""
    known = isinstance(error, TondoError)
    what = error.what if isinstance(error, TondoError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, TondoError) else "The trace is in the JSON report."
    lines = (what, *([f"Hint: {hint}"] if hint else []))
    trace = "" if known else "".join(traceback.format_exception(error))
    return Step(name, False, lines, seconds, {"error": what, "trace": trace})


def as_markdown(report: Report) -> str:
    """The report as a page."""
    parts = ["# tondo demo", "", f"{report.verdict[:1].upper()}{report.verdict[1:]}."]
    for number, step in enumerate(report.steps, 1):
        mark = "" if step.held else ", did not hold"
        parts += ["", f"## {number}. {step.name} ({step.seconds:.1f} s{mark})", ""]
        parts += [f"- {line}" for line in step.lines]
    return "\n".join([*parts, ""])


def as_lines(report: Report) -> list[str]:
    """The report as plain lines."""
    lines = []
    for step in report.steps:
        lines += [step_line(step), *(f"    {line}" for line in step.lines)]
    return [*lines, report.verdict]


def step_line(step: Step) -> str:
    """One step in a line: a mark, its name, its time."""
    return f"{'ok' if step.held else 'NO':<2}  {step.name:<32}{step.seconds:>7.1f} s"


def as_table(report: Report, width: int) -> str:
    """The report as a terminal of that many columns shows it."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("", "step", "seconds", "what happened", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[2].justify = "right"
    for step in report.steps:
        mark = "[green]✓[/]" if step.held else "[bold red]✗[/]"
        table.add_row(mark, step.name, f"{step.seconds:.1f}", _plain("\n".join(step.lines)))
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width)
    console.print(table)
    console.print(report.verdict, style="bold green" if report.held else "bold red")
    return text.getvalue().rstrip()


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Writes ``demo.json`` and ``demo.md``, each whole; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = orjson.dumps(report.data(), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    return (
        _write_whole(folder / "demo.json", data),
        _write_whole(folder / "demo.md", as_markdown(report).encode()),
    )


def gigabytes(count: int) -> str:
    """Bytes as GB with one digit."""
    return f"{count / 1e9:.1f} GB"


def _write_whole(path: Path, data: bytes) -> Path:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
    return path
