"""Measure whether windows can be seen: frame differences at their seams against elsewhere, three ways of joining them.

    python tools/measure_seams.py CLIP [CLIP …] --write docs/windows.md

Each clip is refined by the embedded refiner in windows that are independent, faded in pixels, and blended in latent
space, and once in a single window as the control (its network takes any number of frames). A transition is at a seam
if either of its frames is one that two windows share, or is the cut itself where windows share none. Every number is
the mean at seams over the mean elsewhere, divided by the same of the control at the same places: 1 is no seam.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nc_refiner import CalibratedRefiner, VideoClip
from nc_refiner.evaluation import mse, spatial_frequency
from nc_refiner.video import FrameReader, contact_sheet

CONTROL = "one window"
METHODS = {
    "independent": {"overlap": 0, "max_latents_gib": 0.0},
    "pixel cross-fade": {"max_latents_gib": 0.0},
    "latent windows": {},
}
COLUMNS = ("first difference", "second difference", "change of the edit", "detail", "worst change of the edit")


def measure(x: Tensor, y: Tensor, seams: Sequence[Sequence[int]]) -> dict[str, float]:
    """Compare input `x` and output `y`, both `(F, 3, H, W)`, at `seams` (first and last shared frame) and elsewhere.

    Returns:
        For each of `COLUMNS` the value at seams over that elsewhere. Differences: mean absolute first and second
        difference in time, and detail: spatial frequency, each over the input's own; change of the edit: mean absolute
        first difference of y − x, and at the worst transition of all seams over the median elsewhere.

    Raises:
        ValueError: no seam, or nothing but seams.
    """
    count = len(x)
    moves, shared = torch.zeros(count - 1, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    for first, last in seams:
        # Where windows share nothing, first and last are the two sides of one cut.
        cut = last == first + 1
        moves[(first if cut else max(0, first - 1)) : last + (0 if cut else 1)] = True
        shared[first : last + 1] = True
    if not moves.any() or moves.all():
        raise ValueError("frames at seams and elsewhere are needed; use a longer clip or smaller windows")
    bends = moves[:-1] | moves[1:]

    def size(frames: Tensor, order: int) -> Tensor:
        return frames.diff(n=order, dim=0).abs().mean(dim=(1, 2, 3)).clamp_min(1e-4)

    def ratio(values: Tensor, at: Tensor) -> float:
        return float(values[at].mean() / values[~at].mean())

    edit = size(y - x, 1)
    values = (
        ratio(size(y, 1) / size(x, 1), moves),
        ratio(size(y, 2) / size(x, 2), bends),
        ratio(edit, moves),
        ratio(spatial_frequency(y) / spatial_frequency(x), shared),
        float(edit[moves].max() / edit[~moves].median()),
    )
    return dict(zip(COLUMNS, values, strict=True))


def refined(clip: VideoClip, iterations: int, given: argparse.Namespace, method: str) -> tuple[Tensor, list[list[int]]]:
    """The clip refined one way, and its seams."""
    refiner = CalibratedRefiner.from_name("embedded", {"device": given.device}, iterations=iterations)
    settings = {"strength": given.strength, "num_inference_steps": given.num_inference_steps}
    if method == CONTROL:
        refiner.adapter.requirements = replace(refiner.adapter.requirements, max_frames=None)
    else:
        settings |= {"window": given.window, "overlap": given.overlap, **METHODS[method]}
    result = refiner(clip, seed=given.seed, **settings)
    return result.clip.frames, result.receipt["seams"]


def compare(
    clip: VideoClip, iterations: int, given: argparse.Namespace
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]], list[int]]:
    """Every way's numbers over the control's, and its distances; with every output, and a seam."""
    x = clip.frames
    control, _ = refined(clip, iterations, given, CONTROL)
    outputs, found, seam = {"input": x, CONTROL: control}, {}, [0, 0]
    for method in METHODS:
        y, seams = refined(clip, iterations, given, method)
        base = measure(x, control, seams)
        found[method] = {name: value / base[name] for name, value in measure(x, y, seams).items()}
        found[method]["MSE to one window ×10⁶"] = 1e6 * float(mse(control, y).mean())
        found[method]["MSE to the input ×10⁶"] = 1e6 * float(mse(x, y).mean())
        outputs[method], seam = y, seams[0]
    return outputs, found, seam


def table(rows: dict[tuple[int, str], list[dict[str, float]]]) -> list[str]:
    """Markdown rows: means over the clips."""
    names = list(next(iter(rows.values()))[0])
    lines = ["| N | windows | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 2)]
    for (iterations, method), found in rows.items():
        cells = [sum(numbers[name] for numbers in found) / len(found) for name in names]
        lines.append(f"| {iterations} | {method} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    return lines


def sheet(outputs: dict[str, Tensor], seam: Sequence[int], path: Path) -> None:
    """Frames from two before to two after a seam, one row a method, for the eye."""
    span = slice(max(0, seam[0] - 2), seam[1] + 3)
    clips = {name: frames[span] for name, frames in outputs.items()}
    contact_sheet(clips, path, len(next(iter(clips.values()))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0, or 2 for bad input, said in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="videos with at least --frames frames")
    parser.add_argument("--frames", type=int, default=61)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--overlap", type=int, default=4, help="of the two ways that overlap")
    parser.add_argument("--strength", type=float, default=0.6)
    parser.add_argument("--num-inference-steps", type=int, default=10)
    parser.add_argument("--iterations", type=int, nargs="+", default=[0, 3])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet around a seam of each clip")
    parser.add_argument("--write", type=Path, help="markdown file whose table this run replaces")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        rows = run(given)
        lines = table(rows)
        print("\n".join(lines))
        if given.write is not None:
            write(given, lines)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"measure_seams: {error}\n")
        return 2
    return 0


def run(given: argparse.Namespace) -> dict[tuple[int, str], list[dict[str, float]]]:
    """Every clip, every number of iterations, every way."""
    rows: dict[tuple[int, str], list[dict[str, float]]] = {}
    for path in given.clips:
        with FrameReader(path, max_frames=given.frames, height=given.height) as reader:
            clip = VideoClip(torch.stack(list(reader)))
        if len(clip) < given.frames:
            raise ValueError(f"{path} has {len(clip)} frames; {given.frames} are needed, or use --frames")
        for iterations in given.iterations:
            outputs, found, seam = compare(clip, iterations, given)
            for method, numbers in found.items():
                rows.setdefault((iterations, method), []).append(numbers)
                cells = ", ".join(f"{name} {value:.3f}" for name, value in numbers.items())
                sys.stderr.write(f"{path.name}, N = {iterations}, {method}: {cells}\n")
            if given.sheets is not None:
                given.sheets.mkdir(parents=True, exist_ok=True)
                sheet(outputs, seam, given.sheets / f"{path.stem}_N{iterations}.png")
    return rows


def write(given: argparse.Namespace, lines: list[str]) -> None:
    """Put the table, and how it was made, between the two marks of the markdown file."""
    start, end = "<!-- measured -->\n", "<!-- end -->\n"
    text = given.write.read_text(encoding="utf-8")
    if start not in text or end not in text:
        raise ValueError(f"{given.write} has no place for the table; it needs the lines {start.strip()} {end.strip()}")
    names = ", ".join(path.name for path in given.clips)
    how = (
        f"Embedded refiner, {len(given.clips)} clips ({names}), {given.frames} frames "
        f"of {given.height} rows, windows of {given.window} that share {given.overlap}, strength {given.strength:g}, "
        f"{given.num_inference_steps} steps, seed {given.seed}.\n\n"
    )
    before, _, rest = text.partition(start)
    given.write.write_text(
        before + start + how + "\n".join(lines) + "\n" + end + rest.partition(end)[2], encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
