"""Refine every clip of a folder with a VideoCrafter checkout; arguments are named as in its own inference script."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nc_refiner
from nc_refiner.adapters.videocrafter import VideoCrafterAdapter
from nc_refiner.files import VIDEO_SUFFIXES, write_text
from nc_refiner.video import read_clip, write_clip

__all__ = ["main", "refine_folder"]


def _prompts(clips: list[Path], prompt_file: Path | None) -> list[str]:
    if prompt_file is None:
        return [clip.stem.replace("_", " ") for clip in clips]
    prompts = [line.strip() for line in prompt_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(prompts) != len(clips):
        raise ValueError(f"{prompt_file} has {len(prompts)} prompts for {len(clips)} clips; needed: one a line, each")
    return prompts


def refine_folder(
    refiner: nc_refiner.CalibratedRefiner,
    folder: Path,
    savedir: Path,
    prompt_file: Path | None = None,
    seed: int = 20230211,
    start_timesteps: float | None = None,
    ddim_steps: int | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> list[Path]:
    """Refine the videos of `folder`, in order of name, into `savedir`; returns what was written.

    What has its clip and its receipt there is kept, so that a run that was stopped goes on where it was.

    Args:
        refiner: over a `VideoCrafterAdapter`; an image-to-video model is given each clip's first frame.
        folder, savedir: not the same.
        prompt_file: one prompt a line; None takes the file names.
        seed: the same for every clip.
        start_timesteps: share of the schedule, in (0, 1]. ddim_steps: of the whole schedule. None: the adapter's.
        overwrite: make anew what is there already.
        settings: further fields of `RefineSettings` (`size`, `scale`, `window`, …).

    Raises:
        ValueError: no video there, prompts that do not match, or `savedir` is `folder`.
    """
    clips = sorted(path for path in folder.glob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not clips:
        raise ValueError(f"no video in {folder}; looked for {', '.join(sorted(VIDEO_SUFFIXES))}")
    if savedir.resolve() == folder.resolve():
        raise ValueError("savedir is the folder of the clips, which would be overwritten; name another")
    prompts = _prompts(clips, prompt_file)
    savedir.mkdir(parents=True, exist_ok=True)
    adapter, written = refiner.adapter, []
    for path, prompt in zip(clips, prompts, strict=True):
        target, told = savedir / f"{path.stem}.mp4", savedir / f"{path.stem}.receipt.json"
        if target.exists() and told.exists() and not overwrite:
            continue
        clip = read_clip(path)
        if isinstance(adapter, VideoCrafterAdapter) and hasattr(adapter.model, "embedder"):
            adapter.image = clip.frames[0]
        result = refiner(
            clip, prompt=prompt, seed=seed, strength=start_timesteps, num_inference_steps=ddim_steps, **settings
        )
        write_clip(result.clip, target)
        receipt = json.dumps(result.receipt, indent=2) + "\n"
        with write_text(told, receipt) as file:
            file.commit()
        written.append(target)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 done, 2 bad input or config (one line on stderr)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="the VideoCrafter clone")
    parser.add_argument("--config", type=Path, required=True, help="its config, a path in the clone or any other")
    parser.add_argument("--ckpt_path", type=Path, required=True)
    parser.add_argument("--cond_input", type=Path, required=True, help="folder of clips")
    parser.add_argument("--prompt_file", type=Path, help="one prompt a line; default: the file names")
    parser.add_argument("--savedir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20230211)
    parser.add_argument("--ddim_steps", type=int, default=50)
    parser.add_argument("--ddim_eta", type=float, default=1.0)
    parser.add_argument("--unconditional_guidance_scale", type=float, default=12.0)
    parser.add_argument("--fps", type=int, help="to condition on; default: 28 for text-to-video, 8 for image-to-video")
    parser.add_argument("--height", type=int, help="refine at this height; default: the clip's")
    parser.add_argument("--width", type=int, help="refine at this width; give both or neither")
    parser.add_argument("--start_timesteps", type=float, default=0.6, help="share of the schedule, in (0, 1]")
    parser.add_argument("--iterations", type=int, default=3, help="of calibration; 0 is plain SDEdit")
    parser.add_argument("--cutoff", type=float, default=1.0)
    parser.add_argument("--overwrite", action="store_true", help="replace clips that are there already")
    given = parser.parse_args(arguments)
    try:
        if (given.height is None) != (given.width is None):
            raise ValueError("give both --height and --width, or neither")
        size = {} if given.height is None else {"size": (given.height, given.width)}
        calibration = nc_refiner.NoiseCalibration(iterations=given.iterations, cutoff=given.cutoff)
        adapter = VideoCrafterAdapter.from_checkout(
            given.root,
            given.config,
            given.ckpt_path,
            fps=given.fps,
            eta=given.ddim_eta,
            guidance_scale=given.unconditional_guidance_scale,
        )
        refine_folder(
            nc_refiner.CalibratedRefiner(adapter, calibration),
            given.cond_input,
            given.savedir,
            given.prompt_file,
            given.seed,
            given.start_timesteps,
            given.ddim_steps,
            given.overwrite,
            **size,
        )
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.stderr.write(f"refine_folder: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
