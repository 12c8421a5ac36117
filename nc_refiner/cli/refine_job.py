"""The work behind `nc-refiner refine`: one file, or the same file twice for a comparison, streamed window by window."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import video
from ..adapters.base import RefinerAdapter
from ..adapters.registry import available, create
from ..files import digest, write_text
from ..refining.receipt import Receipt, history_line
from ..refining.repeat import RefineRequest, differences
from ..refining.resize import resized
from ..refining.run import Refinement
from ..refining.together import refine_together
from ..video.sidecar import Sidecar, read_sidecar
from .interrupts import undisturbed, work_kept
from .progress import progress
from .refine_files import OutputFiles
from .refine_meters import JobMeters, SheetFrames, take

__all__ = ["RefineJob"]

SHEET_FRAMES = 4


@dataclass
class RefineJob:
    """Everything one `refine` call needs; `run` does it and returns the report that `--json` prints.

    All files appear together at the end, or none does.

    Attributes:
        input, output: what is read and what is written.
        request: which refiner, how it runs, how the input is read; and the receipt, where one is repeated.
        adapter_options: what the refiner's factory is called with.
        original: undegraded original of the input, frame by frame; None where there is none.
        compare: also run plain SDEdit, and write the side-by-side and the contact sheet.
        overwrite: replace files that no earlier run wrote.
        show_progress: a progress bar on standard error.
        notes: what the user should know about this run.

    Raises (from `run`):
        ValueError: bad input, options that do not fit, files that must not be replaced.
        RuntimeError: the model failed.
    """

    input: Path
    output: Path
    request: RefineRequest
    adapter_options: dict[str, Any] = field(default_factory=dict)
    original: Path | None = None
    compare: bool = False
    overwrite: bool = False
    show_progress: bool = False
    notes: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Refine, write every file, return the report."""
        OutputFiles.check_name(self.output)
        with ExitStack() as stack:
            reader = stack.enter_context(self._reader(self.input))
            files = OutputFiles(self.output, self.compare)
            files.check([path for path in (self.input, self.original) if path is not None], self.overwrite)
            stack.enter_context(files.locked())
            if self.output.suffix.lower() == ".png" and reader.frames > 1:
                found = f"the input has {reader.frames} frames"
                raise ValueError(f"{self.output} holds one picture, {found}; use .mp4 or --max-frames 1")
            sidecar = read_sidecar(self.input)
            settings, calibration = self.request.settings, self.request.calibration
            if settings.prompt is None and sidecar.prompt:
                settings = replace(settings, prompt=sidecar.prompt)
            fps = self._frame_rate(reader.info, sidecar)
            original = self._original(stack, reader)
            adapter = self._adapter()
            if self.request.own_cutoff:
                calibration = replace(calibration, cutoff=adapter.requirements.default_cutoff)
            runs = {"calibrated": Refinement(adapter, calibration, settings)}
            if self.compare:
                runs = {"sdedit": Refinement(adapter, replace(calibration, iterations=0), settings), **runs}
            meters = JobMeters(runs, original, str(self.original))
            self._refine(stack, reader, files, runs, meters, fps, sidecar)
            return self._report(reader, files, runs, meters, fps)

    def _reader(self, path: Path) -> video.FrameReader:
        return video.FrameReader(path, max_frames=self.request.max_frames, height=self.request.height)

    def _again(self, stack: ExitStack, path: Path) -> Iterator[Tensor]:
        """A fresh pass over a file: streams run side by side, so each reads for itself."""
        return iter(stack.enter_context(self._reader(path)))

    def _adapter(self) -> RefinerAdapter:
        try:
            return create(self.request.refiner, **self.adapter_options)
        except KeyError as error:
            if self.request.refiner in available():
                raise
            raise ValueError(error.args[0]) from None
        except TypeError as error:
            given = ", ".join(f"--{name}" for name in self.adapter_options) or "no options"
            raise ValueError(
                f"{self.request.refiner} cannot be built here with {given}: {error}; see doctor"
            ) from error

    def _frame_rate(self, info: video.VideoInfo, sidecar: Sidecar) -> float:
        if info.variable_frame_rate:
            self.notes.append(f"variable frame rate: played at the average, {info.fps:.4g} frames per second")
        # A sidecar that contradicts the video would change its speed, and part the picture from its sound.
        if sidecar.fps is None or not (info.still or abs(sidecar.fps / info.fps - 1) < 0.01):
            return info.fps
        return sidecar.fps

    def _original(self, stack: ExitStack, reader: video.FrameReader) -> Iterator[Tensor] | None:
        if self.original is None:
            return None
        original = stack.enter_context(self._reader(self.original))
        if (original.frames, original.height, original.width) != (reader.frames, reader.height, reader.width):
            raise ValueError(
                f"{self.original} has {original.frames} frames of {original.width}×{original.height}, the input "
                f"{reader.frames} of {reader.width}×{reader.height}; an original must match the input"
            )
        return (resized(frame, self.request.settings) for frame in original)

    def _refine(
        self,
        stack: ExitStack,
        reader: video.FrameReader,
        files: OutputFiles,
        runs: dict[str, Refinement],
        meters: JobMeters,
        fps: float,
        sidecar: Sidecar,
    ) -> None:
        paths, count = files.paths, reader.frames
        audio = self.input if reader.info.audio else None
        writers = {"calibrated": stack.enter_context(video.FrameWriter(self.output, fps, audio_from=audio))}
        side = None
        if self.compare:
            writers["sdedit"] = stack.enter_context(video.FrameWriter(paths["sdedit"], fps))
            labels = ("reference", "SDEdit", f"calibrated, N = {self.request.calibration.iterations}")
            side = stack.enter_context(video.SideBySideWriter(paths["side_by_side"], labels, fps))
        sheet = SheetFrames(count, SHEET_FRAMES)
        with progress(sum(run.steps_for(count) for run in runs.values()), self.show_progress) as advance:
            for run in runs.values():
                run.on_step = advance
            again, settings = self._again(stack, self.input), runs["calibrated"].settings
            for blocks in refine_together(list(runs.values()), self._again(stack, self.input), count):
                reference = resized(take(again, len(blocks[0]), str(self.input)), settings)
                done = dict(zip(runs, blocks, strict=True))
                meters.add(reference, done)
                for name, block in done.items():
                    writers[name].write(block)
                if side is not None:
                    side.write(reference, *done.values())
                    sheet.add({"reference": reference, **done})
        everyone: list[video.FrameWriter | video.SideBySideWriter] = [*writers.values(), *([side] if side else [])]
        for writer in everyone:
            writer.finish()
            self.notes += [note for note in writer.notes if note not in self.notes]
        receipt = self._receipt(reader, runs["calibrated"], files)
        texts = [(paths["sidecar"], self._sidecar(fps, sidecar, receipt)), (paths["receipt"], receipt)]
        written = [
            stack.enter_context(write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n"))
            for path, data in texts
        ]
        with undisturbed():
            if side is not None:
                titles = {"sdedit": "SDEdit", "calibrated": f"N = {self.request.calibration.iterations}"}
                clips = {titles.get(name, name): clip for name, clip in sheet.clips().items()}
                video.contact_sheet(clips, paths["contact_sheet"], SHEET_FRAMES)
            for writer in everyone:
                writer.close()
            for text in written:
                text.commit()
            work_kept("every output was written before")

    def _receipt(self, reader: video.FrameReader, run: Refinement, files: OutputFiles) -> Receipt:
        receipt, info = run.receipt(), reader.info
        receipt["input"] = {
            "name": self.input.name,
            "sha256": digest(self.input),
            "frames": info.frames,
            "height": info.height,
            "width": info.width,
            "fps": float(info.fps),
        }
        receipt["reading"] = {"max_frames": self.request.max_frames, "height": self.request.height}
        receipt["output"] = self.output.name
        receipt["files"] = files.names()
        if self.request.receipt is not None:
            self.notes += differences(self.request.receipt, receipt)
        self.notes += [note for note in receipt["degradations"] if note not in self.notes]
        receipt["degradations"] = list(self.notes)
        return receipt

    def _sidecar(self, fps: float, sidecar: Sidecar, receipt: Receipt) -> dict[str, Any]:
        seed, iterations = receipt["settings"]["seed"], self.request.calibration.iterations
        line = history_line(self.request.refiner, iterations, seed, receipt["content_loss"])
        prompt = receipt["settings"]["prompt"]
        return {"fps": float(fps), "prompt": prompt, "seed": seed, "history": [*sidecar.history, line]}

    def _report(
        self, reader: video.FrameReader, files: OutputFiles, runs: dict[str, Refinement], meters: JobMeters, fps: float
    ) -> dict[str, Any]:
        results = {
            name: {**meters.result(name), "content_loss": list(run.trace().content_loss)} for name, run in runs.items()
        }
        return {
            "reference": meters.reference(),
            **results,
            "evaluations": {name: run.evaluations for name, run in runs.items()},
            "seconds": {name: run.receipt()["seconds"] for name, run in runs.items()},
            "files": {name: str(path) for name, path in files.paths.items()},
            "degradations": self.notes,
            "clip": {"frames": reader.frames, "height": reader.height, "width": reader.width, "fps": float(fps)},
            "strength": runs["calibrated"].plan.strength,
            "iterations": self.request.calibration.iterations,
            "seed": self.request.settings.seed,
        }
