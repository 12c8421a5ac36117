"""Entry point: assembles the commands and turns every failure into one line and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import typer

from .doctor import doctor
from .refine import refine
from .refiners import refiners

__all__ = ["app", "main"]

BAD_INPUT, FAILED = 2, 1
# Typer's parser has been both an own package and a part of Typer; its error classes are found through public names.
UsageError = typer.BadParameter.__bases__[0]
ParserError = UsageError.__bases__[0]

app = typer.Typer(
    name="nc-refiner",
    help="Refine videos with SDEdit models and keep their content: Noise Calibration.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(refine)
app.command()(doctor)
app.command()(refiners)


@app.callback()
def _root() -> None:
    """Refine videos with SDEdit models and keep their content: Noise Calibration."""


def _say(text: str) -> None:
    line = " ".join(str(text).split())
    sys.stderr.write(f"nc-refiner: {line}\n")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"note: {message}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; default: the process's own.

    Returns:
        0: done. 1: the work failed or was interrupted. 2: bad input or options; nothing was written. Set
        `NC_REFINER_TRACEBACK=1` to see where an error came from.
    """
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    except ParserError as error:
        _say(f"{error.format_message()} (see nc-refiner --help)")  # type: ignore[attr-defined]
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted; nothing was written, the input is as it was")
        return FAILED
    except BrokenPipeError:
        return FAILED
    except Exception as error:  # the last line of defence: a person at a terminal gets words, never a traceback
        return _failure(error)
    return code if isinstance(code, int) else 0


def _failure(error: Exception) -> int:
    if os.environ.get("NC_REFINER_TRACEBACK"):
        raise error
    if isinstance(error, KeyError) and error.args:
        _say(error.args[0])
        return BAD_INPUT
    if isinstance(error, (ValueError, FileNotFoundError, ImportError)):
        _say(str(error))
        return BAD_INPUT
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        _say("out of memory; use a smaller --height, --window or --max-frames")
    elif isinstance(error, OSError):
        _say(f"{error.filename or 'a file'}: {error.strerror or error}; nothing was kept")
    else:
        _say(f"the run failed: {error or type(error).__name__}; NC_REFINER_TRACEBACK=1 shows where")
    return FAILED


def run() -> None:
    """Console script."""
    sys.exit(main())
