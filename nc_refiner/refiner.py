"""`CalibratedRefiner`: one call from a clip to a refined clip, whatever the host."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from .adapters.base import RefinerAdapter
from .adapters.registry import create
from .calibration import CalibrationTrace, NoiseCalibration
from .clip import VideoClip
from .refining.plan import RefinePlan
from .refining.receipt import history_line
from .refining.run import Refinement
from .refining.settings import RefineSettings

if TYPE_CHECKING:
    from .config.refiner import SDEditDescription

__all__ = ["CalibratedRefiner", "RefinedClip"]


@dataclass(frozen=True, eq=False)
class RefinedClip:
    """`clip`: the refined clip; `trace`: content loss per iteration; `receipt`: what the run did, JSON-ready."""

    clip: VideoClip
    trace: CalibrationTrace
    receipt: dict[str, Any]


class CalibratedRefiner:
    """An SDEdit refiner over any adapter whose initial noise is calibrated first.

    Args:
        adapter: the host.
        calibration: how to calibrate; default `NoiseCalibration()` with the adapter's own cutoff. `iterations = 0` is
            plain SDEdit.
        defaults: fields of `RefineSettings` used where a call does not give them.

    Examples:
        >>> refiner = CalibratedRefiner.from_name("embedded", iterations=2)
        >>> clip = VideoClip(torch.rand(8, 3, 32, 32))
        >>> result = refiner(clip, strength=0.2, num_inference_steps=10, seed=1)
        >>> result.clip.frames.shape, len(result.trace.content_loss)
        (torch.Size([8, 3, 32, 32]), 2)
    """

    def __init__(
        self,
        adapter: RefinerAdapter,
        calibration: NoiseCalibration | None = None,
        defaults: dict[str, Any] | None = None,
    ):
        self.adapter = adapter
        self.calibration = calibration or NoiseCalibration(cutoff=adapter.requirements.default_cutoff)
        self.defaults = dict(defaults or {})

    @classmethod
    def from_name(cls, name: str, adapter: dict[str, Any] | None = None, **calibration: Any) -> CalibratedRefiner:
        """Build the registered adapter `name` (its options in `adapter`); the rest are `NoiseCalibration` fields.

        Raises:
            KeyError: unknown name. TypeError, ValueError: unknown or out-of-range options.
        """
        built = create(name, **(adapter or {}))
        return cls(built, NoiseCalibration(**{"cutoff": built.requirements.default_cutoff, **calibration}))

    @classmethod
    def from_pipe(cls, pipe: Any, call: dict[str, Any] | None = None, **calibration: Any) -> CalibratedRefiner:
        """A refiner over a diffusers image-to-image or video-to-video pipeline; the pipeline stays as it is.

        Args:
            pipe: the pipeline object.
            call: arguments for every call of it (a control image, embeddings, …).
            calibration: fields of `NoiseCalibration`.

        Raises:
            ImportError: diffusers is not installed. ValueError: the pipeline cannot be calibrated.
            TypeError: unknown arguments.
        """
        return cls.from_name("diffusers", {"pipe": pipe, **({"call": call} if call else {})}, **calibration)

    @classmethod
    def from_pretrained(
        cls, model: str, adapter: dict[str, Any] | None = None, **calibration: Any
    ) -> CalibratedRefiner:
        """A refiner over diffusers weights by name (`stabilityai/stable-diffusion-xl-refiner-1.0`) or folder.

        Args:
            model: name on the hub, or a folder in the same layout; safetensors only.
            adapter: options of `nc_refiner.adapters.diffusers.loading.load_pipeline` (`dtype`, `device`, `variant`,
                `revision`, `local_files_only`, …), and `call` as in `from_pipe`.
            calibration: fields of `NoiseCalibration`.

        Raises:
            ImportError: diffusers is not installed. OSError: no such weights, or none as safetensors.
            ValueError: the pipeline cannot be calibrated. TypeError: unknown options.
        """
        return cls.from_name("diffusers", {"model": model, **(adapter or {})}, **calibration)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> CalibratedRefiner:
        """The refiner that the `refiner:` section of a cascade file describes, its settings as defaults of every call.

        Raises:
            ConfigError (a ValueError): the file cannot be used, or has no refiner this package runs.
        """
        from .config.refiner import read_refiner

        return cls.from_description(read_refiner(path))

    @classmethod
    def from_description(cls, description: SDEditDescription) -> CalibratedRefiner:
        """Build the adapter that a checked description names, and the refiner over it.

        Raises:
            ValueError: options that do not fit the adapter. Anything its host raises while loading.
        """
        backbone = description.backbone
        try:
            adapter = create(backbone.adapter, **backbone.options)
        except TypeError as error:
            raise ValueError(f"backbone {backbone.adapter!r} cannot be built from these options: {error}") from error
        return cls(adapter, description.calibration(adapter.requirements.default_cutoff), description.settings())

    def with_calibration(self, **changes: Any) -> CalibratedRefiner:
        """The same adapter under a changed calibration, for example `iterations=0` as the control of a comparison."""
        return CalibratedRefiner(self.adapter, replace(self.calibration, **changes), self.defaults)

    def plan(self) -> RefinePlan:
        """What a call without settings of its own would do, found without asking the host for anything."""
        return RefinePlan(self.adapter, self.calibration, RefineSettings(**self.defaults))

    def refinement(self, settings: RefineSettings, on_step: Callable[[str], None] | None = None) -> Refinement:
        """A run over a stream of frames, for clips that should not be held in memory whole."""
        return Refinement(self.adapter, self.calibration, settings, on_step)

    def __call__(
        self,
        clip: VideoClip,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        on_step: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> RefinedClip:
        """Refine `clip`.

        Args:
            clip: frames `(F, 3, H, W)`; any size and length, fitted to the adapter and back.
            generator: source of randomness; one number is drawn from it. Not together with `seed`.
            seed: the same as a number; without either a fresh one is drawn, and the receipt names it.
            on_step: called with the stage's name after every prediction.
            settings: fields of `RefineSettings` (`strength`, `num_inference_steps`, `guidance_scale`, …); the prompt
                defaults to the clip's own.

        Raises:
            TypeError, ValueError: unknown or out-of-range settings.
            RuntimeError: the model produced values that are not finite.
        """
        if generator is not None and seed is not None:
            raise ValueError("give either generator or seed, not both")
        if generator is not None:
            seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        elif seed is None:
            seed = secrets.randbits(63)
        settings = {"prompt": clip.prompt, **self.defaults, **settings}
        run = self.refinement(RefineSettings(seed=seed, **settings), on_step)
        refined = torch.cat(list(run.run(clip.frames, len(clip))))
        receipt = run.receipt()
        note = history_line(self.adapter.name, self.calibration.iterations, seed, receipt["content_loss"])
        return RefinedClip(clip.with_frames(refined, note), run.trace(), dict(receipt))
