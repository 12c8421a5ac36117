"""The pictures of the documentation site, made with the embedded refiner on the bundled clip: how the method works, and
what N, cutoff and strength do.

    python tools/site_pictures.py [--output docs/pictures] [--frames 3]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nc_refiner import CalibratedRefiner, calibrate
from nc_refiner.assets import demo_clip
from nc_refiner.calibration import NoiseCalibration, content_loss
from nc_refiner.frequency import LowPass
from nc_refiner.video import read_clip

SEED = 0
SHOWN = 12
"""The frame that is shown: the face is not covered in it."""
LABEL = 22
"""Height of the line of words above a picture, in pixels."""
GAP = 6


def _image(frame: Tensor, enlarge: int = 2) -> Image.Image:
    """`(3, H, W)` in [0, 1] → a picture, enlarged."""
    pixels = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    size = (frame.shape[2] * enlarge, frame.shape[1] * enlarge)
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def _sheet(rows: list[list[tuple[str, Tensor]]], path: Path, enlarge: int = 2) -> None:
    """Labelled frames in rows, written as one JPEG."""
    pictures = [[(words, _image(frame, enlarge)) for words, frame in row] for row in rows]
    width = max(sum(picture.width + GAP for _, picture in row) for row in pictures) + GAP
    height = sum(max(picture.height for _, picture in row) + LABEL + GAP for row in pictures) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    top = GAP
    for row in pictures:
        left = GAP
        for words, picture in row:
            draw.text((left, top), words, fill="black", font=font)
            sheet.paste(picture, (left, top + LABEL))
            left += picture.width + GAP
        top += LABEL + GAP + max(picture.height for _, picture in row)
    part = path.with_suffix(".part.jpg")
    sheet.save(part, quality=88, optimize=True)
    part.rename(path)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


class Pictures:
    """Runs the refiner over a few frames of the bundled clip and shows the middle one."""

    def __init__(self, frames: int):
        clip = read_clip(demo_clip()[0])
        start = SHOWN - frames // 2
        self.clip = type(clip)(clip.frames[start : start + frames], clip.fps)
        self.middle = frames // 2
        self.refiner = CalibratedRefiner.from_name("embedded")
        self.default = self.refiner.adapter.requirements

    def shown(self, frames: Tensor, crop: bool = False) -> Tensor:
        """The middle frame, or its part with the most to see."""
        frame = frames[self.middle]
        return frame[:, 10:110, 30:160] if crop else frame

    def refined(self, iterations: int, cutoff: float | None = None, strength: float | None = None) -> Tensor:
        """Frames refined from the one seed; what is not given is the refiner's default."""
        cutoff = self.default.default_cutoff if cutoff is None else cutoff
        refiner = self.refiner.with_calibration(iterations=iterations, cutoff=cutoff)
        generator = torch.Generator().manual_seed(SEED)
        return refiner(self.clip, strength=strength, generator=generator).clip.frames

    def method(self, path: Path) -> None:
        """One turn of the method: the input, the noised input, the first estimate, what differs, the next estimate."""
        adapter = self.refiner.adapter
        reference = adapter.encode(self.clip.frames)
        steps = adapter.timesteps(self.default.default_steps, self.default.default_strength)
        level = adapter.noise_level(steps.first)
        noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(SEED))
        noisy = level.add_noise(reference, noise)
        low_pass = LowPass(reference.shape[-2], reference.shape[-1], self.default.default_cutoff)

        def estimate(x_t: Tensor) -> Tensor:
            with torch.inference_mode():
                return adapter.predict_x0(x_t, steps.first, None)

        def pixels(latents: Tensor) -> Tensor:
            return self.shown(adapter.decode(latents))

        first = estimate(noisy)
        config = NoiseCalibration(iterations=3, cutoff=self.default.default_cutoff)
        calibrated = calibrate(noisy, reference, level, estimate, config)
        last = estimate(calibrated.x_t)

        def difference(found: Tensor) -> Tensor:
            return 0.5 + 3 * (pixels(reference + low_pass(found - reference)) - pixels(reference))

        losses = [content_loss(found, reference, self.default.default_cutoff) for found in (first, last)]
        rows = [
            [("input", pixels(reference)), ("noised: where refining starts", pixels(noisy / level.alpha))],
            [
                (f"first estimate (content loss {losses[0]:.3f})", pixels(first)),
                ("its low-band difference to the input, 3 times", difference(first)),
            ],
            [
                (f"estimate after 3 corrections ({losses[1]:.3f})", pixels(last)),
                ("the difference that is left, 3 times", difference(last)),
            ],
        ]
        _sheet(rows, path)

    def front(self, path: Path) -> None:
        """What the first page shows: the input, SDEdit, N = 3, where a face can be seen."""

        def picture(words: str, frames: Tensor) -> tuple[str, Tensor]:
            return words, self.shown(frames, crop=True)

        row = [
            picture("input", self.clip.frames),
            picture("SDEdit", self.refined(0)),
            picture("calibrated, N = 3", self.refined(3)),
        ]
        _sheet([row], path, enlarge=3)

    def choices(self, folder: Path) -> None:
        """One sheet for each of N, cutoff and strength, the others at their defaults."""
        source = ("input", self.shown(self.clip.frames, crop=True))

        def picture(words: str, frames: Tensor) -> tuple[str, Tensor]:
            return words, self.shown(frames, crop=True)

        row = [picture("SDEdit (N = 0)" if n == 0 else f"N = {n}", self.refined(n)) for n in (0, 1, 3, 10)]
        _sheet([[source, *row[:2]], row[2:]], folder / "choosing_n.jpg")
        row = [picture(f"cutoff {c:g}", self.refined(3, cutoff=c)) for c in (0.1, 0.45, 0.7, 1.0)]
        _sheet([[source, *row[:2]], row[2:]], folder / "choosing_cutoff.jpg")
        strengths = (0.2, 0.4, 0.6)
        rows = [
            [picture(f"SDEdit, strength {s:g}", self.refined(0, strength=s)) for s in strengths],
            [picture(f"N = 3, strength {s:g}", self.refined(3, strength=s)) for s in strengths],
        ]
        _sheet(rows, folder / "choosing_strength.jpg")


def main() -> int:
    """Write every picture; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures")
    parser.add_argument("--frames", type=int, default=3, help="frames that are refined; the middle one is shown")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(given.frames)
    pictures.front(given.output / "front.jpg")
    pictures.method(given.output / "method.jpg")
    pictures.choices(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
