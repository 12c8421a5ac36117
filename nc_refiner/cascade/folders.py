"""A refiner stage between two programs that hand folders of mp4 files on: what LaVie, Show-1 and VGen have in common.

The folder that is written holds the clips and nothing else, since the next program may read every file in it; receipts
go to a folder beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.document import ConfigError, Document, read_document
from ..config.problems import raise_unknown_key
from ..config.refiner import refiner_options
from ..refiner import CalibratedRefiner
from ..refining.receipt import write_receipt
from ..video import FrameWriter, VideoError, read_clip

__all__ = ["Job", "main", "refine_folder"]


@dataclass(frozen=True)
class Job:
    """One clip: the file to read, the file to write, its prompt and its seed."""

    source: Path
    target: Path
    prompt: str | None
    seed: int


def refine_folder(
    jobs: Iterable[Job],
    refiner: CalibratedRefiner,
    receipts: Path,
    negative_prompt: str | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Refine every job; one that fails does not stop the others.

    A target that is there already is kept, so that a run that was stopped goes on where it was, unless `overwrite`.

    Returns:
        One line for every job that failed.
    """
    receipts.mkdir(parents=True, exist_ok=True)
    failures = []
    for job in jobs:
        if job.target.exists() and not overwrite:
            say(f"kept {job.target}")
            continue
        try:
            _refine(job, refiner, receipts, negative_prompt)
        except Exception as error:  # one clip's failure must not stop the others
            failures.append(f"{job.source}: {' '.join(str(error).split()) or type(error).__name__}")
            say(f"failed {failures[-1]}")
        else:
            say(f"wrote {job.target}")
    return failures


def _refine(job: Job, refiner: CalibratedRefiner, receipts: Path, negative_prompt: str | None) -> None:
    if job.target.exists() and job.target.samefile(job.source):
        raise ValueError("input and output are the same file; choose another output folder")
    clip = read_clip(job.source, exact_colour=True)
    result = refiner(clip, prompt=job.prompt, negative_prompt=negative_prompt, seed=job.seed)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with FrameWriter(job.target, result.clip.fps) as writer:
        for frame in result.clip.frames:
            writer.write(frame)
    receipt = {**result.receipt, "input": str(job.source), "output": str(job.target), "prompt": job.prompt}
    write_receipt(receipt, receipts / f"{job.target.stem}.receipt.json")


def main(
    name: str,
    option: str,
    plan: Callable[[Document], tuple[list[Job], Path]],
    keys: Iterable[str] | None,
    arguments: list[str] | None = None,
) -> int:
    """The command line that the hosts' scripts share.

    Args:
        name: of the script, for messages.
        option: how the host calls its config option, such as `--config`.
        plan: from the config to the jobs and the folder of their receipts.
        keys: every key of the config; None where it is the host's own file, which has keys of its own.
        arguments: instead of the process's.

    Returns:
        0, 1 if a clip failed, 2 for a config that cannot be used.
    """
    parser = argparse.ArgumentParser(prog=name, description="Refine a folder of clips with Noise Calibration.")
    parser.add_argument(option, dest="config", required=True, help="the config, a YAML file")
    parser.add_argument("--refiner", help="a YAML file with a refiner: section, where the config has none")
    parser.add_argument("--overwrite", action="store_true", help="replace clips that are there already")
    given = parser.parse_args(arguments)
    try:
        document = read_document(given.config)
        if keys is not None:
            _check_keys(document, keys)
        described = read_document(given.refiner) if given.refiner else document
        options = refiner_options(described, described.data.get("refiner", "nc"))
        jobs, receipts = plan(document)
        refiner = CalibratedRefiner.from_description(options)
    except (ConfigError, VideoError, ImportError, OSError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    negative = document.data.get("negative_prompt")
    failures = refine_folder(jobs, refiner, receipts, negative if isinstance(negative, str) else None, given.overwrite)
    print(f"{len(jobs) - len(failures)} of {len(jobs)} done; receipts in {receipts}")
    return 1 if failures else 0


def _check_keys(document: Document, keys: Iterable[str]) -> None:
    known = set(keys)
    for key in document.data:
        if key not in known:
            raise_unknown_key(document, (key,), known)


def need(document: Document, key: str, kind: type, default: Any = None) -> Any:
    """The value of `key`, which must be of `kind`.

    Raises:
        ConfigError: missing without a default, or of another kind.
    """
    value = document.data.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {str: "text", int: "a whole number", list: "a list"}.get(kind, kind.__name__)
        raise ConfigError(f"{document.where((key,))}: {key} is {value!r}; it must be {wanted}")
    return value


def clips_in(folder: Path) -> list[Path]:
    """The mp4 files of a folder in the order of their names.

    Raises:
        ConfigError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{os.fspath(folder)} is not a folder; run the stage before first, or correct the path")
    found = sorted(path for path in folder.iterdir() if path.suffix == ".mp4" and path.is_file())
    if not found:
        raise ConfigError(f"{os.fspath(folder)} holds no .mp4 file; run the stage before first")
    return found
