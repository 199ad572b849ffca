"""The command line: ``tondo``, the same as ``python -m app.cli``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from app.errors import SettingsError, TondoError, Usage
from app.surface import (
    bench,
    demo,
    features,
    keys,
    lifecycle,
    llm,
    models,
    monitoring,
    predictions,
    resources,
    training,
)
from app.surface.session import new_session

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="tondo",
    help="Feature store, training, registry, prediction service and control plane on one Ray "
    "cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere, shows where an error came from.",
)
for surface in (demo, lifecycle, resources, training, predictions, bench):
    surface.register(app)
app.add_typer(features.app, name="features")
app.add_typer(models.app, name="models")
app.add_typer(monitoring.app, name="monitor")
app.add_typer(keys.app, name="keys")
app.add_typer(llm.app, name="llm")


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrong usage."""
    debug = "--debug" in arguments
    wanted = [argument for argument in arguments if argument != "--debug"]
    try:
        with new_session():
            answer = app(args=wanted, prog_name="tondo", standalone_mode=False)
        return answer if isinstance(answer, int) else DONE
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _told(error)
    except KeyboardInterrupt:
        _tell("interrupted", "")
        return INTERRUPTED


def _told(error: Exception) -> int:
    """Prints what, why and a hint, and says which exit code that means."""
    if isinstance(error, typer.TyperException):
        return _misused(error)
    if isinstance(error, TondoError):
        _tell(error.what, error.hint)
        return WRONG_USAGE if isinstance(error, Usage | SettingsError) else FAILED
    return _unexpected(error)


def _misused(error: typer.TyperException) -> int:
    """Unknown options, missing arguments and the like; a group without a command is its help."""
    what = error.format_message().replace(": Value error, ", ": ")
    if what.startswith("Usage:"):
        print(what, file=sys.stderr)
    else:
        context = getattr(error, "ctx", None)
        _tell(what, f"See {context.command_path if context else 'tondo'} --help.")
    return WRONG_USAGE


def _unexpected(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has seen enough; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        _tell(f"{place}{error.strerror or error}", "Check the path, its rights and free space.")
    elif isinstance(error, typer.Abort):
        _tell("stopped: nothing was changed", "Answer y, or give --yes.")
    else:
        _tell(f"{type(error).__name__}: {error}", "Run it again with --debug to see where.")
    return FAILED


def _tell(what: str, hint: str) -> None:
    print(f"Error: {what}", file=sys.stderr)
    if hint:
        print(f"Hint: {hint}", file=sys.stderr)


if __name__ == "__main__":
    main()
