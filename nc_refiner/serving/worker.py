"""What a replica does with one clip: read, refine, write. Knows nothing of Ray or HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapters.registry import create
from ..calibration import NoiseCalibration
from ..refiner import CalibratedRefiner
from ..refining.plan import RefinePlan
from ..refining.settings import RefineSettings
from ..video import ReadLimits, probe, read_clip, write_clip

__all__ = ["ArmSpec", "Done", "Work", "Worker"]


@dataclass(frozen=True)
class ArmSpec:
    """A refiner as plain data, so that any machine can build it.

    Attributes:
        adapter, options: a registered name, and what `create` takes for it.
        calibration: fields of `NoiseCalibration`; without a cutoff the adapter's own counts.
        settings: fields of `RefineSettings` that every call starts from.
    """

    adapter: str
    options: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self) -> CalibratedRefiner:
        """The refiner, its model loaded."""
        adapter = create(self.adapter, **self.options)
        calibration = NoiseCalibration(**{"cutoff": adapter.requirements.default_cutoff, **self.calibration})
        return CalibratedRefiner(adapter, calibration, self.settings)


@dataclass(frozen=True)
class Work:
    """One clip to refine.

    Attributes:
        clip: the bytes of its file. suffix: of the file's name, which says what it is.
        settings: fields of `RefineSettings`, the request's own.
        seed: 0 to 2⁶³ − 1.
        max_frames, max_pixels: what is read at most.
    """

    clip: bytes = field(repr=False)
    suffix: str
    settings: dict[str, Any]
    seed: int
    max_frames: int
    max_pixels: int


@dataclass(frozen=True)
class Done:
    """A refined clip: the bytes of an mp4 (of a png for a picture), content loss per iteration, the run's receipt."""

    clip: bytes = field(repr=False)
    suffix: str
    content_loss: tuple[float, ...]
    receipt: dict[str, Any]


class Worker:
    """A refiner with its model loaded, one clip at a time."""

    def __init__(self, spec: ArmSpec):
        self.refiner = spec.build()

    def refine(self, work: Work, on_start: Callable[[int], None], on_step: Callable[[str], None]) -> Done:
        """Refine one clip.

        Args:
            work: the clip and what is asked for.
            on_start: called with the number of steps there will be.
            on_step: called after each; what it raises ends the run.

        Raises:
            ValueError: a clip that cannot be read, or settings that do not fit. What the refiner raises.
        """
        own = self._own(work.settings)
        with tempfile.TemporaryDirectory(prefix="nc_refiner-serve-") as folder:
            source = Path(folder) / f"input{work.suffix}"
            source.write_bytes(work.clip)
            limits = ReadLimits(max_frames=work.max_frames, max_pixels=work.max_pixels)
            try:
                info = probe(source, limits)
                clip = read_clip(source, limits=limits)
            except ValueError as error:
                # The file lies in a folder that the client knows nothing of.
                raise ValueError(str(error).replace(str(source), "the clip")) from None
            asked = RefineSettings(seed=work.seed, **{**self.refiner.defaults, **own})
            on_start(RefinePlan(self.refiner.adapter, self.refiner.calibration, asked).steps_for(len(clip)))
            refined = self.refiner(clip, seed=work.seed, on_step=on_step, **own)
            target = Path(folder) / ("result.png" if info.still else "result.mp4")
            write_clip(refined.clip, target, audio_from=source if info.audio else None)
            return Done(target.read_bytes(), target.suffix, refined.trace.content_loss, refined.receipt)

    def _own(self, settings: dict[str, Any]) -> dict[str, Any]:
        # Both say where the noise enters; what the request says is meant.
        return {**settings, "start_timestep": None} if "strength" in settings else settings
