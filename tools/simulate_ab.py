"""Calibrates the A/B analysis by simulation; writes `docs/ab_calibration.md`.

python tools/simulate_ab.py [--simulations 1000] [--looks 500] [--output docs/ab_calibration.md]
python tools/simulate_ab.py equal | skewed | intervals | looks | plans     one part, on standard output
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ab_calibration.page import PARTS, page

from nc_refiner.files import write_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["page", *PARTS], default="page", help="default: the whole page")
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--looks", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("docs/ab_calibration.md"))
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    # The bootstrap collects garbage on every call, which would walk through torch's objects thousands of times.
    gc.freeze()
    if given.part != "page":
        for line in PARTS[given.part](given.simulations, given.looks):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        return 0
    write_text(given.output, page(given.simulations, given.looks)).commit()
    sys.stderr.write(f"{given.output}, {time.perf_counter() - start:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
