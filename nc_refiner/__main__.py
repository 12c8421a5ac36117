"""Start of the command line: `nc-refiner` and `python -m nc_refiner`. Loading torch takes seconds in which a person
may already press Ctrl-C; that must end in words too."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> None:
    """Console script: everything behind `nc-refiner`."""
    try:
        from .cli.main import run as start
        from .cli.memory import keep_freed_memory

        keep_freed_memory()
    except KeyboardInterrupt:
        sys.stderr.write("nc-refiner: interrupted; nothing was written, the input is as it was\n")
        sys.exit(1)
    start()


if __name__ == "__main__":
    run()
