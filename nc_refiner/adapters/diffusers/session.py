"""What a call noises, and one calibrated call: what both engines share. The method itself stays in
`calibration_steps`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibration_steps
from ...holding import Hold
from ..runtime import replaced
from .coefficients import Noising, noising_hooked
from .core_layout import AS_IT_IS, CoreLayout, core_layout, mask_weights, shown_frames
from .errors import NothingToCalibrate, NotSDEdit
from .estimates import carried_output, estimate_x0
from .hand_noised import hand_noising_hooked
from .held import check_can_hold, stepped_from, steps_left
from .layout import Layout, PackCall, find_layout
from .steps import StepCall

__all__ = ["Advance", "Recorder", "Session"]

_PACKERS = ("_pack_latents", "pack_latents")
_NOTHING_NOISED = (
    "nothing this call noised reaches the scheduler, so there is no initial noise to calibrate. That is so with "
    "`denoising_start`, with `latents=`, at strength 1 of an inpainting pipeline, and for pipelines that are not "
    "SDEdit. Use an image-to-image or video-to-video pipeline with a strength below 1, or iterations=0"
)


@dataclass(frozen=True, eq=False)
class Advance:
    """What one prediction led to.

    Attributes:
        latents: where to go on from, in the scheduler's layout.
        done: no further prediction is wanted.
        output: the model output to step with at once (`reuse_prediction`, or nothing was left to change).
    """

    latents: Tensor
    done: bool
    output: Tensor | None = None


@dataclass(eq=False)
class _Started:
    """What is known once the first step has been reached."""

    noising: Noising
    index: int
    layout: Layout
    core: CoreLayout
    hold: Hold | None
    steps: Generator[Tensor, Tensor, Calibrated]


class Recorder:
    """Watches one pass of a pipeline: what it noises, how it packs, and what of it reaches the scheduler.

    Args:
        pipe: the pipeline; nothing on it is changed but inside a `recording` block.
    """

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self.noisings: list[Noising] = []
        self._packs: list[PackCall] = []

    @contextmanager
    def recording(
        self, on_noised: Callable[[Noising], Tensor], wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[None]:
        """Hook noising (answered by `on_noised`, as long as `wanted()`) and packing for one pass of the pipeline."""
        self.noisings, self._packs = [], []

        def record(noising: Noising) -> Tensor:
            self.noisings.append(noising)
            return on_noised(noising)

        with ExitStack() as stack:
            stack.enter_context(noising_hooked(self.pipe.scheduler, record, wanted))
            stack.enter_context(hand_noising_hooked(self.pipe, record))
            for name in _PACKERS:
                function = getattr(self.pipe, name, None)
                if function is not None:
                    stack.enter_context(replaced(self.pipe, name, self._pack_recorder(function)))
            yield

    def _pack_recorder(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(function)
        def recorder(latents: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self._packs.append(PackCall(latents, function, args, kwargs))
            return function(latents, *args, **kwargs)

        return recorder

    def locate(self, sample: Tensor) -> tuple[Noising, int, Layout]:
        """At the first step: which noising call of this pass led to `sample`, its number, and the layout between.

        Raises:
            NotSDEdit: nothing noised arrived, or it has no height and width.
        """
        for index in reversed(range(len(self.noisings))):
            noising = self.noisings[index]
            layout = find_layout(noising.x_t, sample, self._packs)
            if layout is not None:
                break
        else:
            if not bool(torch.isfinite(sample).all()):
                raise ValueError(
                    f"{type(self.pipe).__name__}: the latents are NaN or infinite before the first step; check the "
                    "input, and the autoencoder's dtype (many overflow in float16: use float32 or bfloat16)"
                )
            raise NotSDEdit(f"{type(self.pipe).__name__}: {_NOTHING_NOISED}")
        if noising.x_t.ndim < 4:
            raise NotSDEdit(
                f"{type(self.pipe).__name__} noises {tuple(noising.x_t.shape)}, which has no height and width to "
                "filter; use the pipeline's image or video stage"
            )
        return noising, index, layout


class Session(Recorder):
    """Drives the core's coroutine from inside a pipeline.

    Args:
        pipe: the pipeline; nothing on it is changed here but by `recording`, inside its block.
        config: how to calibrate.
        arguments: of the call, for the frames in them.

    Raises:
        NotSDEdit: `config` holds and the scheduler cannot.
    """

    def __init__(self, pipe: Any, config: NoiseCalibration, arguments: dict[str, Any]):
        super().__init__(pipe)
        if config.hold:
            check_can_hold(pipe.scheduler)
        self.config, self._arguments = config, arguments
        self._weights: Tensor | None = None
        self._real_steps = self._total = 0
        self.trace = CalibrationTrace()
        self.expected: Tensor | None = None
        """The latents the pipeline must bring to its first step next; None before it has been there."""
        self._started: _Started | None = None

    @property
    def started(self) -> _Started:
        """What `begin` found.

        Raises:
            RuntimeError: `begin` has not been called.
        """
        if self._started is None:
            raise RuntimeError("the calibration has not reached the pipeline's first step yet; call begin() there")
        return self._started

    def check_worth_it(self, noising: Noising) -> None:
        """Raise NothingToCalibrate (after the core's warning) where what is noised leaves nothing to calibrate: known
        before any evaluation. What has no height and width is not judged here.
        """
        if noising.x_t.ndim < 4 or noising.x_t.shape != noising.reference.shape:
            return
        try:
            next(self._steps(noising, noising.x_t, self._core(noising)))
        except StopIteration as stop:
            raise NothingToCalibrate from stop

    def arrives(self, sample: Tensor) -> bool:
        """Whether the latents at the pipeline's first step are those it was told to start from; the first time, the
        calibration starts on what `locate` finds, and they are.

        Raises:
            NotSDEdit: see `locate`.
            NothingToCalibrate: empty low band, or α = 0 (after the core's warning).
        """
        if self._started is not None:
            return self.expected is not None and torch.equal(sample, self.expected)
        noising, index, layout = self.locate(sample)
        core = self._core(noising)
        steps = self._steps(noising, layout.to_noised(sample), core)
        hold = Hold.of(core.to_core(noising.reference), noising.level, self.config, self._weights)
        self._started = _Started(noising, index, layout, core, hold, steps)
        self.noisings, self._packs = [], []  # no latents are kept longer than needed
        try:
            next(steps)
        except StopIteration as stop:
            raise NothingToCalibrate from stop
        return True

    def _core(self, noising: Noising) -> CoreLayout:
        """How the latents lie; finds the mask's weights, once."""
        if not self.config.needs_axes:
            return AS_IT_IS
        frames = shown_frames(self.pipe, self._arguments)
        core = core_layout(self.pipe, noising.reference, None if frames is None else len(frames))
        if self._weights is None:
            self._weights = mask_weights(self.config, core.to_core(noising.reference), self.pipe, frames)
        return core

    def _steps(self, noising: Noising, x_t: Tensor, core: CoreLayout) -> Generator[Tensor, Tensor, Calibrated]:
        latents, reference = core.to_core(x_t), core.to_core(noising.reference)
        return calibration_steps(latents, reference, noising.level, self.config, self._weights)

    def step(self, call: StepCall, steps: int | None = None) -> Any:
        """Let the scheduler make a step of the denoising proper, the estimate held where `config` says so.

        Args:
            call: the step; they come in order.
            steps: how many there are; None is as many as the scheduler has left, asked at the first.
        """
        hold = None if self._started is None else self._started.hold
        if hold is None:
            return call.really()
        if self._real_steps == 0:
            scheduler = self.pipe.scheduler
            self._total = steps or steps_left(scheduler, call.arguments["timestep"])
        layout, core, step = self.started.layout, self.started.core, self._real_steps
        self._real_steps += 1

        def held(x0: Tensor) -> Tensor:
            found = core.to_core(layout.to_noised(x0))
            changed = hold(found, step, self._total)
            return x0 if changed is found else layout.to_sample(core.to_host(changed))

        return stepped_from(self.pipe.scheduler, call, held)

    def expect(self, latents: Tensor, dtype: torch.dtype) -> Tensor:
        """From now on the pipeline must arrive at its first step with `latents`, which are returned in `dtype`."""
        self.expected = latents.to(dtype)
        return self.expected

    def injected(self, latents: Tensor) -> Tensor:
        """`latents`, given as `step` sees them, as `add_noise` would have returned them."""
        x_t = self.started.layout.to_noised(latents)
        return x_t.to(torch.promote_types(x_t.dtype, self.started.noising.x_t.dtype))

    def advance(self, call: StepCall) -> Advance:
        """Hand the coroutine the estimate made at `call` and learn where to go on from.

        Raises:
            NotSDEdit: the model's output does not fit the latents.
            ValueError: as `estimate_x0` and `calibration_steps`.
        """
        layout, core, level, sample = self.started.layout, self.started.core, self.started.noising.level, call.sample
        x0 = estimate_x0(self.pipe.scheduler, call.output, sample, level)
        if x0.shape != sample.shape:
            raise NotSDEdit(
                f"{type(self.pipe).__name__}: the model's output {tuple(call.output.shape)} does not fit the latents "
                f"{tuple(sample.shape)}, so no estimate of the clean input can be formed; use another scheduler"
            )
        try:
            x_t = core.to_host(self.started.steps.send(core.to_core(layout.to_noised(x0))))
        except StopIteration as stop:
            return self._finished(call, stop.value)
        return Advance(layout.to_sample(x_t), done=False)

    def _finished(self, call: StepCall, result: Calibrated) -> Advance:
        self.trace = result.trace
        moved = self.started.layout.to_sample(self.started.core.to_host(result.x_t))
        if torch.equal(moved, call.sample):  # stopped early: this prediction belongs to these very latents
            return Advance(call.sample, done=True, output=call.output)
        if not self.config.reuse_prediction:
            return Advance(moved, done=True)
        level = self.started.noising.level
        return Advance(moved, True, carried_output(self.pipe.scheduler, call.output, call.sample, moved, level))
