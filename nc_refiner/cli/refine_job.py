"""The work behind `nc-refiner refine`: one file, or the same file twice for a comparison, streamed window by window."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import video
from ..adapters.registry import create
from ..calibration import NoiseCalibration
from ..evaluation import FidelityMeter, spatial_frequency
from ..receipt import write_receipt
from ..refinement import Refinement, RefineSettings
from ..video.sidecar import read_sidecar
from .progress import progress

__all__ = ["RefineJob"]

SHEET_FRAMES = 4


@dataclass
class RefineJob:
    """Everything one `refine` call needs; `run` does it and returns the report that `--json` prints.

    Raises (from `run`):
        ValueError: bad input, options that do not fit, files that must not be replaced.
        RuntimeError: the model failed.
    """

    input: Path
    output: Path
    refiner: str
    adapter_options: dict[str, Any]
    calibration: NoiseCalibration
    settings: RefineSettings
    max_frames: int | None = None
    height: int | None = None
    original: Path | None = None
    compare: bool = False
    overwrite: bool = False
    show_progress: bool = False
    notes: list[str] = field(default_factory=list)

    def _beside(self, suffix: str) -> Path:
        return self.output.with_name(self.output.stem + suffix)

    def _targets(self) -> dict[str, Path]:
        found = {
            "output": self.output,
            "sidecar": self.output.with_suffix(".json"),
            "receipt": self._beside(".receipt.json"),
        }
        if self.compare:
            found["sdedit"] = self._beside(f".sdedit{self.output.suffix}")
            found["side_by_side"] = self._beside(".compare.mp4")
            found["contact_sheet"] = self._beside(".contact.png")
        return found

    def _check_targets(self) -> None:
        """Refuse to touch the input or a file that no earlier run of ours wrote."""
        ours = self._beside(".receipt.json").exists()
        for path in self._targets().values():
            for source in filter(None, (self.input, self.original)):
                if path.exists() and source.exists() and path.samefile(source):
                    raise ValueError(f"{path} is the input itself; choose another OUTPUT")
            if path.exists() and not path.is_dir() and not ours and not self.overwrite:
                raise ValueError(f"{path} exists and has no receipt of an earlier run; move it or pass --overwrite")

    def _reader(self, path: Path) -> video.FrameReader:
        return video.FrameReader(path, max_frames=self.max_frames, height=self.height)

    def run(self) -> dict[str, Any]:
        """Refine, write every file, return the report."""
        with ExitStack() as stack:
            reader = stack.enter_context(self._reader(self.input))
            self._check_targets()
            if self.output.suffix.lower() == ".png" and reader.frames > 1:
                raise ValueError(f"{self.output} is a picture but {self.input} has {reader.frames} frames; use .mp4")
            sidecar = read_sidecar(self.input)
            if self.settings.prompt is None and sidecar.prompt:
                self.settings = replace(self.settings, prompt=sidecar.prompt)
            adapter = create(self.refiner, **self.adapter_options)
            runs = {"calibrated": Refinement(adapter, self.calibration, self.settings)}
            if self.compare:
                plain = replace(self.calibration, iterations=0)
                runs = {"sdedit": Refinement(adapter, plain, self.settings), **runs}
            self._note_source(reader.info)
            return self._refine(stack, reader, runs, sidecar)

    def _note_source(self, info: video.VideoInfo) -> None:
        if info.variable_frame_rate:
            self.notes.append(f"variable frame rate: played at the average, {info.fps:.4g} frames per second")
        if info.audio and (self.max_frames is not None and self.max_frames < info.frames):
            self.notes.append("the sound is cut to the frames that were refined")

    def _refine(
        self, stack: ExitStack, reader: video.FrameReader, runs: dict[str, Refinement], sidecar: Any
    ) -> dict[str, Any]:
        targets, fps, count = self._targets(), sidecar.fps or reader.info.fps, reader.frames
        audio = self.input if reader.info.audio else None
        writers = {"calibrated": stack.enter_context(video.FrameWriter(self.output, fps, audio_from=audio))}
        side = None
        if self.compare:
            writers["sdedit"] = stack.enter_context(video.FrameWriter(targets["sdedit"], fps))
            labels = ("reference", "SDEdit", f"calibrated, N = {self.calibration.iterations}")
            side = stack.enter_context(video.SideBySideWriter(targets["side_by_side"], labels, fps))
        meters = {name: FidelityMeter() for name in runs}
        detail = _Average()
        against_original = _OriginalMeters(self._frames_of_original(stack, reader), ["input", *runs])
        sheet = _SheetFrames(count, ["reference", *runs])
        total = sum(run.steps_for(count) for run in runs.values())
        with progress(total, self.show_progress) as advance:
            for run in runs.values():
                run.on_step = advance
            streams = {name: run.run(self._again(stack, reader), count) for name, run in runs.items()}
            reference_frames = iter(self._again(stack, reader))
            for blocks in zip(*streams.values(), strict=True):
                reference = torch.stack([next(reference_frames) for _ in range(len(blocks[0]))])
                done = dict(zip(streams, blocks, strict=True))
                detail.add(spatial_frequency(reference))
                for name, block in done.items():
                    meters[name].add(reference, block)
                    writers[name].write(block)
                against_original.add({"input": reference, **done})
                sheet.add({"reference": reference, **done})
                if side is not None:
                    side.write(reference, *done.values())
        receipt = self._receipt(reader, runs["calibrated"], targets)
        self._finish(writers, side, sheet, targets)
        for writer in (*writers.values(), *([side] if side else [])):
            receipt["degradations"] += [note for note in writer.notes if note not in receipt["degradations"]]
        self._write_sidecar(fps, sidecar, receipt)
        write_receipt(receipt, targets["receipt"])
        results = {
            name: {**meters[name].result(), **against_original.result(name), "content_loss": list(run.trace().content_loss)}
            for name, run in runs.items()
        }
        return {
            "reference": {"spatial_frequency": detail.mean(), **against_original.result("input")},
            **results,
            "evaluations": {name: run.evaluations for name, run in runs.items()},
            "seconds": {name: run.receipt()["seconds"] for name, run in runs.items()},
            "files": {name: str(path) for name, path in targets.items()},
            "degradations": receipt["degradations"],
            "clip": {"frames": count, "height": reader.height, "width": reader.width, "fps": float(fps)},
            "strength": receipt["settings"]["strength"],
            "iterations": self.calibration.iterations,
            "seed": self.settings.seed,
        }

    def _again(self, stack: ExitStack, reader: video.FrameReader) -> Iterator[Tensor]:
        """A fresh pass over the input: streams run side by side, so each reads for itself."""
        return iter(stack.enter_context(self._reader(self.input)))

    def _frames_of_original(self, stack: ExitStack, reader: video.FrameReader) -> Iterator[Tensor] | None:
        if self.original is None:
            return None
        original = stack.enter_context(self._reader(self.original))
        if (original.frames, original.height, original.width) != (reader.frames, reader.height, reader.width):
            raise ValueError(
                f"{self.original} has {original.frames} frames of {original.width}×{original.height}, the input "
                f"{reader.frames} of {reader.width}×{reader.height}; an original must match the input"
            )
        return iter(original)

    def _finish(self, writers: dict[str, video.FrameWriter], side: Any, sheet: _SheetFrames, targets: dict[str, Path]) -> None:
        for writer in writers.values():
            writer.close()
        if side is not None:
            side.close()
            names = {"reference": "reference", "sdedit": "SDEdit", "calibrated": f"N = {self.calibration.iterations}"}
            video.contact_sheet({names[k]: v for k, v in sheet.clips().items()}, targets["contact_sheet"], SHEET_FRAMES)

    def _receipt(self, reader: video.FrameReader, run: Refinement, targets: dict[str, Path]) -> dict[str, Any]:
        receipt = run.receipt()
        info = reader.info
        receipt["input"] = {
            "name": self.input.name,
            "sha256": _digest(self.input),
            "frames": info.frames,
            "height": info.height,
            "width": info.width,
            "fps": float(info.fps),
        }
        receipt["reading"] = {"max_frames": self.max_frames, "height": self.height}
        receipt["output"] = targets["output"].name
        receipt["degradations"] = self.notes + receipt["degradations"]
        return receipt

    def _write_sidecar(self, fps: Any, sidecar: Any, receipt: dict[str, Any]) -> None:
        loss = ", ".join(f"{value:.4f}" for value in receipt["content_loss"]) or "none"
        line = f"refined by {self.refiner}, N={self.calibration.iterations}, seed {self.settings.seed}, content loss {loss}"
        data = {
            "fps": float(fps),
            "prompt": self.settings.prompt,
            "seed": self.settings.seed,
            "history": [*sidecar.history, line],
        }
        write_receipt(data, self.output.with_suffix(".json"))


class _Average:
    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: Tensor) -> None:
        self._sum += float(values.sum())
        self._count += len(values)

    def mean(self) -> float:
        return self._sum / self._count


class _OriginalMeters:
    """Distances to an undegraded original, where there is one."""

    def __init__(self, frames: Iterator[Tensor] | None, names: list[str]):
        self._frames = frames
        self._meters = {name: FidelityMeter() for name in names}
        self._detail = _Average()

    def add(self, blocks: dict[str, Tensor]) -> None:
        if self._frames is None:
            return
        count = len(next(iter(blocks.values())))
        original = torch.stack([next(self._frames) for _ in range(count)])
        self._detail.add(spatial_frequency(original))
        for name, block in blocks.items():
            self._meters[name].add(original, block)

    def result(self, name: str) -> dict[str, float | None]:
        if self._frames is None:
            return {}
        found: dict[str, float | None] = {"psnr_to_original": self._meters[name].result()["psnr"]}
        if name == "input":
            found["original_spatial_frequency"] = self._detail.mean()
        return found


class _SheetFrames:
    """Keeps only the few frames that the contact sheet shows."""

    def __init__(self, count: int, names: list[str]):
        shown = min(SHEET_FRAMES, count)
        self._wanted = {round(i * (count - 1) / max(1, shown - 1)) for i in range(shown)}
        self._kept: dict[str, list[Tensor]] = {name: [] for name in names}
        self._seen = 0

    def add(self, blocks: dict[str, Tensor]) -> None:
        count = len(next(iter(blocks.values())))
        for name, block in blocks.items():
            self._kept[name] += [block[i].clone() for i in range(count) if self._seen + i in self._wanted]
        self._seen += count

    def clips(self) -> dict[str, Tensor]:
        return {name: torch.stack(frames) for name, frames in self._kept.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _slow(stream)


def _slow(stream: Any) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(2**20), b""):
        digest.update(block)
    return digest.hexdigest()
