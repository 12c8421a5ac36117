"""The tuning of `keep` that ships with the embedded model, made again; needed whenever its weights change.

    python tools/tune_embedded.py --clips VIDEO [VIDEO ...]

The videos must not be those of an evaluation. Pieces from several places of each are shrunk and degraded as the model's
evaluation does, mildly and heavily in turn, and tuned on as `nc-refiner tune` does.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch
from embedded_training.degrade import HEAVY, MILD, degrade
from torch import Tensor

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.calibration_options import NoiseCalibration
from nc_refiner.refining.keeping import tuning
from nc_refiner.refining.settings import RefineSettings
from nc_refiner.refining.tune import runs_for, tune
from nc_refiner.video import FrameReader

log = logging.getLogger(__name__)
FRAMES, ROWS, COLUMNS = 2, 96, 160


def pieces_of(video: Path, count: int) -> Iterator[Tensor]:
    """`count` pieces `(2, 3, H, W)` of at most 96×160, evenly spread over the video, not degraded yet."""
    with FrameReader(video) as source:
        rows = min(ROWS, source.height // 2)
        total = source.frames
    if total < FRAMES:
        raise ValueError(f"{video} has {total} frames; a piece needs {FRAMES}")
    starts = [min(int(total * (index + 0.5) / count), total - FRAMES) for index in range(count)]
    with FrameReader(video, height=rows) as source:
        latest: deque[Tensor] = deque(maxlen=FRAMES)
        for number, frame in enumerate(source):
            latest.append(frame)
            # Pieces of a short video share frames, or are the same.
            while starts and number == starts[0] + FRAMES - 1:
                starts.pop(0)
                whole = torch.stack(tuple(latest))
                height, width = rows // 16 * 16, min(COLUMNS, whole.shape[3] // 16 * 16)
                left = (whole.shape[3] - width) // 2
                yield whole[..., :height, left : left + width].contiguous()
            if not starts:
                return


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; 0 when it is done."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="videos that no evaluation uses")
    parser.add_argument("--pieces", type=int, default=3, help="pieces of each video (default 3)")
    parser.add_argument(
        "--output", type=Path, default=tuning.BUILT_IN, help="the file to write (default: the one that ships)"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    originals = [piece for video in given.clips for piece in pieces_of(video, given.pieces)]
    pieces = [degrade(piece, how=(MILD, HEAVY)[index % 2]) for index, piece in enumerate(originals)]
    adapter, done = EmbeddedRefiner(device="cpu"), iter(range(1, runs_for(len(pieces)) + 1))
    found = tune(
        adapter,
        pieces,
        NoiseCalibration(cutoff=adapter.requirements.default_cutoff),
        RefineSettings(seed=0),
        on_run=lambda: log.info("run %d of %d", next(done), runs_for(len(pieces))),
    )
    tuning.write_tuning(found, given.output)
    log.info("%s: %d pieces, %s", given.output, found.clips, ", ".join(found.lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
