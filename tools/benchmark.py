"""Measure what this project promises; prints tables, or one JSON object with `--json`.

    python tools/benchmark.py core             # filter, calibration, evaluations and fidelity, memory
    python tools/benchmark.py core --quick     # the same on a small clip, about two minutes on one busy core
    python tools/benchmark.py ab               # what an A/B test adds to a request
    python tools/benchmark.py evaluate         # what measuring costs, beside other implementations of SSIM
    python tools/benchmark.py ray              # a batch on Ray beside a run in one process
    python tools/benchmark.py start            # how long commands take to start

A sub-command is a module of `benchmarks` with `add_arguments(parser)` and `run(arguments) -> exit code`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import ab, core, evaluate, ray, start

COMMANDS = {"ab": ab, "core": core, "evaluate": evaluate, "ray": ray, "start": start}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Returns:
        0: measured (whether a bar is met is in the output). 2: bad input, said in one line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").strip().splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    given = parser.parse_args(arguments)
    try:
        return COMMANDS[given.command].run(given)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
