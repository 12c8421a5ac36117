"""`PipelineAdapter`: a diffusers pipeline as any other refiner. Its hooks are passes of the pipeline's own call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...holding import Hold
from ...noise_level import NoiseLevel
from ..base import RefinerAdapter, Timesteps
from ..runtime import taking_turns
from .calling import plain_copy
from .coefficients import Noising
from .errors import LeavePass, NotSDEdit
from .estimates import estimate_x0, implying_output
from .hand_noised import is_hand_noised
from .held import check_can_hold, stepped_from
from .layout import Layout
from .memo import EncoderMemo
from .passes import network_hooked, run_pass
from .session import Recorder
from .shapes import LatentAxes, frame_multiple, input_name, pixels, requirements
from .sharing import shared_models
from .steps import StepCall
from .support import check_pipeline, guidance_argument, parameters_of

__all__ = ["PipelineAdapter"]


class _Clip(threading.local):
    """What the hooks know of the clip at hand; each thread has its own, for several may share an adapter."""

    def __init__(self) -> None:
        self.plans: dict[float, tuple[int, float]] = {}
        self.levels: dict[tuple[int, float], NoiseLevel] = {}
        self.frames: Tensor | None = None
        self.count = 0
        self.memo = EncoderMemo()
        self.predicted: list[Any] = []
        self.decoded: tuple[Tensor, Tensor] | None = None


class PipelineAdapter(RefinerAdapter):
    """Any image-to-image or video-to-video pipeline of diffusers.

    Image pipelines refine frame by frame. Every hook is one call of the pipeline, left as early as possible, with the
    encoders remembered while the clip stays the same; `denoise` is the pipeline's own call, to its end. Threads may
    share an adapter, and adapters a pipeline: their passes take turns.

    Args:
        pipe: the pipeline, of which a shallow copy with its own scheduler is used; of a twin, the twin's parts.
        call: arguments that go into every call of it (a control image, embeddings, …).

    Raises:
        NotSDEdit: the pipeline cannot be calibrated, or takes latents rather than frames.
        TypeError: an argument in `call` the pipeline does not take.
    """

    name = "diffusers"
    owns_trajectory = True
    """`denoise` is the pipeline's own call: there is no loop over `predict_x0` and `step` to compare it with."""

    def __init__(self, pipe: Any, **call: Any):
        check_pipeline(pipe)
        if is_hand_noised(type(pipe)):
            raise NotSDEdit(
                f"{type(pipe).__name__} refines latents, not frames; call it through nc_refiner.wrap instead"
            )
        unknown = sorted(set(call) - set(parameters_of(pipe)))
        if unknown:
            raise TypeError(f"{type(pipe).__name__} takes no {', '.join(unknown)}")
        # Plain also where `pipe` is wrapped: it would calibrate a second time.
        self.pipe = plain_copy(pipe)
        self._call = call
        try:
            self._guidance: str | None = guidance_argument(pipe)
        except ValueError:
            self._guidance = None
        self.requirements = requirements(pipe, call, self._guidance is not None)
        self.evaluations = 0
        self._axes: LatentAxes | None = None
        self._clip = _Clip()

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipe._execution_device)

    def condition(self, prompt: str | None = None, negative_prompt: str | None = None, **host: Any) -> dict[str, Any]:
        """Arguments of the pipeline's call: the prompts it takes, and `host` as it is.

        Raises:
            TypeError: an argument the pipeline does not take.
        """
        known = parameters_of(self.pipe)
        unknown = sorted(set(host) - set(known))
        if unknown:
            raise TypeError(f"{type(self.pipe).__name__} takes no {', '.join(unknown)}")
        found: dict[str, Any] = {**self._call, **host}
        if self.requirements.prompt:
            found["prompt"] = prompt or ""
        if self.requirements.negative_prompt and negative_prompt is not None:
            found["negative_prompt"] = negative_prompt
        return found

    def timesteps(self, num_inference_steps: int, strength: float) -> Timesteps:
        """The pipeline's own rule. Asked of a small blank frame until a clip was encoded; where a flow is shifted by
        resolution, `noise_level` and `denoise` still go by the clip at hand.
        """
        with taking_turns(shared_models(self.pipe)):  # the scheduler tells of the pass that was made last
            noising = self._start((num_inference_steps, strength))
            scheduled, first = self.pipe.scheduler.timesteps, noising.timestep
            begin = getattr(self.pipe.scheduler, "begin_index", None)
        if begin is None:
            begin = int((scheduled == first.to(scheduled.device)).nonzero()[0])
        self._clip.plans[float(first)] = (num_inference_steps, strength)
        return Timesteps(scheduled[begin:].cpu(), num_inference_steps, strength)

    def count_steps(self, num_inference_steps: int, strength: float) -> int:
        """By the rule of most pipelines, without starting a call only to leave it again."""
        return max(1, min(int(num_inference_steps * strength), num_inference_steps))

    def noise_level(self, timestep: Tensor) -> NoiseLevel:
        plan = self._plan(timestep)
        if plan not in self._clip.levels:
            self._clip.levels[plan] = self._start(plan).level
        return self._clip.levels[plan]

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames `(F, 3, H, W)` in [0, 1] → `(1, C, F', H', W')`; a video VAE's clips are padded by repeated frames."""
        # Any plan will do: what is noised does not depend on how much.
        plan = next(
            iter(self._clip.plans.values()), (self.requirements.default_steps, self.requirements.default_strength)
        )
        if self._axes is None:
            self._axes = LatentAxes(self._start(plan, self._blank()).reference)
        extra = -(len(frames) - 1) % frame_multiple(self.pipe)
        self._clip.count = len(frames)
        self._clip.frames = torch.cat([frames, frames[-1:].expand(extra, -1, -1, -1)]) if extra else frames
        self._clip.memo.forget_models()
        self._clip.levels, self._clip.decoded = {}, None
        return self._axes.to_contract(self._start(plan, generator=generator).reference)

    def predict_x0(self, x_t: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None = None) -> Tensor:
        """x̂₀ after one guided evaluation of the pipeline's network; raises ValueError before `encode`."""
        found: list[Tensor] = []

        def leave(recorder: Recorder, call: StepCall) -> Any:
            noising, _, layout = recorder.locate(call.sample)
            found.append(layout.to_noised(estimate_x0(self.pipe.scheduler, call.output, call.sample, noising.level)))
            raise LeavePass

        self._clip.predicted = []
        arguments = self._arguments(self._plan(timestep), condition, guidance_scale, None)
        self._run(arguments, leave, inject=x_t, record=self._clip.predicted)
        return self._known_axes.to_contract(found[0]).to(x_t.dtype)

    def denoise(
        self,
        x_t: Tensor,
        timesteps: Timesteps,
        condition: Any,
        *,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        first_x0: Tensor | None = None,
        on_step: Callable[[], None] | None = None,
        hold: Hold | None = None,
    ) -> Tensor:
        """The pipeline's own call from `x_t` to its end; what it decodes is kept for `decode`.

        With `first_x0` the network's answers in the last `predict_x0` stand in for those of the first step.

        Raises:
            NotSDEdit: `hold`, with a scheduler that cannot.
        """
        if hold is not None:
            check_can_hold(self.pipe.scheduler)
        layouts: list[Layout] = []
        last: list[Tensor] = []
        made = 0

        def step(recorder: Recorder, call: StepCall) -> Any:
            nonlocal made
            if not layouts:
                noising, _, layout = recorder.locate(call.sample)
                layouts.append(layout)
                call = call if first_x0 is None else self._from_estimate(call, layout, noising, first_x0)
            answer = call.really() if hold is None else self._held(call, layouts[0], hold, made, len(timesteps))
            made += 1
            last[:] = [answer[0]]
            if on_step is not None:
                on_step()
            return answer

        plan = (timesteps.num_inference_steps, timesteps.strength)
        arguments = self._arguments(plan, condition, guidance_scale, generator)
        instead = [] if first_x0 is None else list(self._clip.predicted)
        result = self._run({**arguments, "output_type": "pt"}, step, inject=x_t, instead=instead)
        latents = self._known_axes.to_contract(layouts[0].to_noised(last[0]))
        self._clip.decoded = (latents, pixels(result[0], self._clip.count))
        return latents

    def _held(self, call: StepCall, layout: Layout, hold: Hold, step: int, steps: int) -> Any:
        def held(x0: Tensor) -> Tensor:
            found = self._known_axes.to_contract(layout.to_noised(x0))
            changed = hold(found, step, steps)
            return x0 if changed is found else layout.to_sample(self._known_axes.to_host(changed))

        return stepped_from(self.pipe.scheduler, call, held)

    def _from_estimate(self, call: StepCall, layout: Layout, noising: Noising, first_x0: Tensor) -> StepCall:
        x0 = layout.to_sample(self._known_axes.to_host(first_x0))
        output = implying_output(self.pipe.scheduler, call.output, call.sample, x0, noising.level)
        return call.moved(call.sample, output)

    def decode(self, latents: Tensor) -> Tensor:
        """The frames `denoise` made of these latents; other latents go through a call of one step (one guided
        evaluation), whose outcome they replace. Raises ValueError before `encode`.
        """
        if self._clip.decoded is not None and self._clip.decoded[0] is latents:
            return self._clip.decoded[1]
        layouts: list[Layout] = []

        def put(recorder: Recorder, call: StepCall) -> Any:
            if not layouts:
                layouts.append(recorder.locate(call.sample)[2])
            return call.answer(layouts[0].to_sample(self._known_axes.to_host(latents)).to(call.sample.dtype))

        arguments = {**self._arguments((2, 0.5), self.condition(), None, None), "output_type": "pt"}
        return pixels(self._run(arguments, put)[0], self._clip.count)

    def describe(self) -> dict[str, Any]:
        import diffusers

        return {
            "pipeline": type(self.pipe).__name__,
            "scheduler": type(self.pipe.scheduler).__name__,
            "weights": str(getattr(self.pipe.config, "_name_or_path", "") or ""),
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "diffusers": diffusers.__version__,
        }

    @property
    def _known_axes(self) -> LatentAxes:
        if self._axes is None or self._clip.frames is None:
            raise ValueError("no clip has been encoded yet; call encode() first")
        return self._axes

    def _plan(self, timestep: Tensor) -> tuple[int, float]:
        try:
            return self._clip.plans[float(timestep)]
        except KeyError:
            raise ValueError(
                f"timestep {float(timestep):g} starts no schedule asked for; known: {sorted(self._clip.plans)}. "
                "Ask timesteps() first"
            ) from None

    def _blank(self) -> Tensor:
        rows, columns = self.requirements.size_multiple
        return torch.full((1, 3, max(rows, 64 // rows * rows), max(columns, 64 // columns * columns)), 0.5)

    def _start(
        self, plan: tuple[int, float], frames: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Noising:
        """What the pipeline noises, and how much; left right there, before any evaluation of its network."""
        found: list[Noising] = []

        def leave(noising: Noising) -> Tensor:
            found.append(noising)
            raise LeavePass

        arguments = self._arguments(plan, self.condition(), None, generator, frames)
        self._run(arguments, on_noised=leave)
        if not found:
            raise NotSDEdit(f"{type(self.pipe).__name__} noised nothing; use an image-to-image pipeline")
        return found[0]

    def _arguments(
        self,
        plan: tuple[int, float],
        condition: dict[str, Any],
        guidance_scale: float | None,
        generator: torch.Generator | None,
        frames: Tensor | None = None,
    ) -> dict[str, Any]:
        known, name = parameters_of(self.pipe), input_name(self.pipe)
        frames = self._clip.frames if frames is None else frames
        frames = self._blank() if frames is None else frames
        found = {
            name: list(frames) if name == "video" else frames[:1],
            "num_inference_steps": plan[0],
            "strength": plan[1],
            "generator": generator or torch.Generator().manual_seed(0),
            **condition,
        }
        if "height" in known and "width" in known:
            found["height"], found["width"] = int(frames.shape[-2]), int(frames.shape[-1])
        if guidance_scale is not None and self._guidance is not None:
            found[self._guidance] = guidance_scale
        return found

    def _run(
        self,
        arguments: dict[str, Any],
        on_step: Callable[[Recorder, StepCall], Any] | None = None,
        *,
        on_noised: Callable[[Noising], Tensor] | None = None,
        inject: Tensor | None = None,
        record: list[Any] | None = None,
        instead: list[Any] | None = None,
    ) -> Any:
        def count() -> None:
            self.evaluations += 1

        latents = None if inject is None else self._known_axes.to_host(inject)
        hooked = network_hooked(self.pipe, count, record, instead or [])
        with taking_turns(shared_models(self.pipe)), self._clip.memo.on(self.pipe), hooked:
            return run_pass(self.pipe, arguments, on_step, on_noised, latents)
