"""Entry point: assembles the commands and turns every failure into one line and an exit code."""

from __future__ import annotations

import errno
import functools
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import typer

from .._version import __version__
from ..files import DiskFull
from .ab import ab
from .app import try_it
from .cascade import cascade
from .doctor import doctor
from .evaluate import evaluate
from .init import init
from .interrupts import interrupted
from .options import CascadeCommand, PlainCommand, PlainGroup, option
from .refine import refine
from .refiners import refiners
from .serve import serve
from .sweep import sweep
from .tune import tune

__all__ = ["app", "main"]

FAILED, BAD_INPUT = 1, 2
LONGEST = 1500
"""Characters of a message; what a file or a program adds to it may have any length."""
# Typer's parser has been both an own package and a part of Typer; the base of its errors is found through public names:
# BadParameter is a UsageError, and that is what every error with a message for the user derives from.
CommandLineError: Any = typer.BadParameter.__bases__[0].__bases__[0]
# What the system answers when a name is at fault, not the work.
BAD_NAMES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EROFS}
# The reader speaks to Python programmers; on the command line its arguments are options.
SPELLINGS = (
    (r", read fewer frames with max_frames, or raise ReadLimits\.\w+", " or read fewer frames with --max-frames"),
    (r",? or raise ReadLimits\.\w+", ""),
    (r"\bmax_frames=(\d+)", r"--max-frames \1"),
)


class _Interrupted(Exception):
    """Ctrl-C, past Typer, whose versions each make something else of it."""


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise _Interrupted from None

    return guarded


app = typer.Typer(
    name="nc-refiner",
    cls=PlainGroup,
    help="Refine videos with SDEdit models and keep their content: Noise Calibration.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(cls=PlainCommand)(_guarded(refine))
app.command(cls=CascadeCommand)(_guarded(cascade))
for _command in (serve, init, evaluate, sweep, tune, doctor, refiners):
    app.command(cls=PlainCommand)(_guarded(_command))
app.command("app", cls=PlainCommand)(_guarded(try_it))
app.add_typer(ab)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nc-refiner {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, option("Print the version and end.", "--version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Refine videos with SDEdit models and keep their content: Noise Calibration."""


def _say(text: str) -> None:
    line = " ".join(str(text).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 200]} … {line[-150:]}"
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
    given = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code = app(given or ["--help"], prog_name="nc-refiner", standalone_mode=False)
        except typer.Exit as stop:
            code = stop.exit_code
        except CommandLineError as error:
            _say(_usage_message(error, given))
            return BAD_INPUT
        except (_Interrupted, KeyboardInterrupt, typer.Abort):
            _say(interrupted())
            return FAILED
        except BrokenPipeError:
            return FAILED
        except Exception as error:  # the last line of defence: a person at a terminal gets words, never a traceback
            if os.environ.get("NC_REFINER_TRACEBACK"):
                raise
            return _failure(error)
    return code if isinstance(code, int) else 0


def _usage_message(error: Any, given: list[str]) -> str:
    """What Typer found wrong with the arguments `given`, with the value it found, which it does not always name."""
    text = error.format_message().rstrip(".")
    names = getattr(getattr(error, "param", None), "opts", [])
    pairs = [*pairwise(given), *(argument.split("=", 1) for argument in given if "=" in argument)]
    values = [value for name, value in pairs if name in names and value not in text]
    found = f", found {values[-1]!r}" if values else ""
    context = getattr(error, "ctx", None)
    return f"{text}{found} (see {context.command_path if context is not None else 'nc-refiner'} --help)"


def _failure(error: Exception) -> int:
    """Say what happened in one line; returns the exit code."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        # Without a name it is a stream, most often standard output; files that are written have errors of their own.
        _say(f"{error.filename or 'reading or writing a stream'}: {error.strerror}")
        return BAD_INPUT if error.errno in BAD_NAMES else FAILED
    if isinstance(error, DiskFull):
        _say(text)
        return FAILED
    if isinstance(error, (ValueError, FileNotFoundError, ImportError, NotImplementedError)):
        for pattern, spelling in SPELLINGS:
            text = re.sub(pattern, spelling, text)
        _say(text or type(error).__name__)
        return BAD_INPUT
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        _say("out of memory, nothing was kept; use a smaller --height, --window or --max-frames")
    else:
        what = f"{type(error).__name__} {text}" if isinstance(error, (KeyError, IndexError)) else text
        _say(f"the run failed: {what or type(error).__name__}; NC_REFINER_TRACEBACK=1 shows where")
    return FAILED


def run() -> None:
    """Console script: `main` on the process's arguments, as a well-behaved process."""
    for stream in (sys.stdout, sys.stderr):
        # A path that the terminal's encoding cannot show is no reason to fail after the work is done.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Ended from outside, a run tidies up as after Ctrl-C; what the caller has set to be ignored stays ignored.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    code = main()
    try:
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            _say(f"standard output: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)
