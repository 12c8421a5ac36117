"""Cut the bundled demo clip out of the held-out part of the film and degrade it.

    python tools/make_demo_clip.py --data FOLDER

FOLDER is the one `tools/train_embedded.py` downloads into; the film is fetched if it is not there yet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from embedded_training.degrade import degrade
from embedded_training.sources import HELD_OUT_SECONDS, fetch

from nc_refiner.assets import demo_clip
from nc_refiner.video.write import FrameWriter

START_SECONDS, FRAMES, EVERY, HEIGHT, WIDTH, FPS = 474.0, 16, 2, 160, 256, 12.0


def cut(film: Path) -> torch.Tensor:
    """`FRAMES` frames, every `EVERY`-th from `START_SECONDS` on, `(F, 3, HEIGHT, WIDTH)` in [0, 1], centre crop."""
    start, end = HELD_OUT_SECONDS
    if not start <= START_SECONDS <= end - FRAMES * EVERY / 24:
        raise ValueError(f"the demo must come from the held-out seconds {start:g} to {end:g}")
    frames: list[torch.Tensor] = []
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        container.seek(int(START_SECONDS / stream.time_base), stream=stream)
        wanted = (frame for frame in container.decode(stream) if float(frame.time or 0) >= START_SECONDS)
        for index, frame in enumerate(wanted):
            if len(frames) == FRAMES:
                break
            if index % EVERY == 0:
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).float() / 255)
    clip = torch.stack(frames)
    width = round(clip.shape[3] * HEIGHT / clip.shape[2])
    small = F.interpolate(clip, size=(HEIGHT, width), mode="bicubic", antialias=True).clamp(0, 1)
    left = (width - WIDTH) // 2
    return small[..., left : left + WIDTH].contiguous()


def main() -> int:
    """Write both files of the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training material")
    data = parser.parse_args().data
    fetch(data)
    original = cut(data / "film.mp4")
    degraded_path, original_path = demo_clip()
    for path, frames, quality in ((original_path, original, 8), (degraded_path, degrade(original, FPS), 8)):
        with FrameWriter(path, FPS, crf=quality) as writer:
            writer.write(frames)
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
