"""The refiner stage `ab`: an A/B test between refiners that drops into a cascade."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...config.refiner import NCOptions, SDEditOptions
from .base import Stage, StageOptions, StageRequest, StageResult
from .registry import register_stage

if TYPE_CHECKING:
    from ...experiment import ABRefiner

__all__ = ["ABOptions", "ABStage", "GuardrailOptions"]

Arm = Annotated[NCOptions | SDEditOptions, Field(discriminator="type")]
Positive = Annotated[float, Field(gt=0)]


class GuardrailOptions(BaseModel):
    """Budgets of every arm but the control; fields as in `nc_refiner.experiment.Guardrails`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    seconds: Positive | None = None
    memory_bytes: Annotated[int, Field(gt=0)] | None = None
    deadline: Literal["auto", "thread", "step"] = "auto"
    window: Annotated[int, Field(ge=1)] = 50
    min_calls: Annotated[int, Field(ge=1)] = 10
    max_failure_rate: Annotated[float, Field(ge=0, le=1)] = 0.2


class ABOptions(StageOptions):
    """An experiment among refiners; fields as in `nc_refiner.experiment.ABPipeline`.

    Attributes:
        arms: name → refiner, written as `refiner:` is; the first is the control.
        store: URL or path of the database it is recorded in; None: nowhere.
        switch_file: the kill switch.
    """

    type: Literal["ab"] = "ab"
    experiment: Annotated[str, Field(min_length=1)]
    arms: Annotated[dict[str, Arm], Field(min_length=2)]
    weights: dict[str, Positive] | None = None
    salt: str = ""
    ramp: Annotated[float, Field(ge=0, le=1)] = 1.0
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    holdout_name: str = "global"
    layer: str | None = None
    slots: Annotated[list[float], Field(min_length=2, max_length=2, default_factory=lambda: [0.0, 1.0])]
    mode: Literal["live", "shadow"] = "live"
    store: str | None = None
    switch_file: str | None = None
    guardrails: GuardrailOptions = GuardrailOptions()

    @model_validator(mode="after")
    def _fits(self) -> ABOptions:
        from ...experiment import Guardrails, Split

        weights = self.weights or dict.fromkeys(self.arms, 1.0)
        if set(weights) != set(self.arms):
            raise ValueError(f"weights name {', '.join(weights)}; the arms are {', '.join(self.arms)}")
        start, end = self.slots
        names = ("salt", "ramp", "holdout", "holdout_name", "layer")
        Split(self.experiment, weights, slots=(start, end), **{name: getattr(self, name) for name in names})
        Guardrails(**self.guardrails.model_dump())
        return self

    def check_keys(self, unknown: Callable[[tuple[str, ...], Iterable[str]], None]) -> None:
        for name, arm in self.arms.items():
            arm.check_keys(lambda location, allowed, name=name: unknown(("arms", name, *location), allowed))  # type: ignore[misc]


@register_stage("refiner", "ab")
class ABStage(Stage):
    """`refiner: {type: ab, …}`: the arm is chosen by prompt and seed, so that a prompt that is run again gets it again.

    An arm that fails, or is switched off, is replaced by the control: what was run is in the receipt's `calibration`,
    what was meant in its `ab`.
    """

    Options = ABOptions
    _ab: ABRefiner | None = None

    def check(self) -> None:
        """Raises ImportError where the store's packages are missing, ValueError where its URL is none."""
        if self.options.store is not None:
            from ...experiment.store import Store

            Store(self.options.store).close()

    def load(self) -> None:
        """Build every arm; live arms with one backbone share it, shadow arms run beside the control and do not."""
        from ...experiment import ABRefiner, Guardrails
        from ...refiner import CalibratedRefiner

        options: ABOptions = self.options
        built: dict[str, CalibratedRefiner] = {}
        arms: dict[str, CalibratedRefiner] = {}
        for name, arm in options.arms.items():
            key = name if options.mode == "shadow" else arm.backbone.model_dump_json()
            if key not in built:
                built[key] = CalibratedRefiner.from_description(arm)
            adapter = built[key].adapter
            calibration = arm.calibration(adapter.requirements.default_cutoff)
            arms[name] = CalibratedRefiner(adapter, calibration, arm.settings())
        names = ("weights", "salt", "ramp", "holdout", "holdout_name", "layer", "mode", "store", "switch_file")
        self._ab = ABRefiner(
            arms,
            options.experiment,
            slots=(options.slots[0], options.slots[1]),
            guardrails=Guardrails(**options.guardrails.model_dump()),
            **{name: getattr(options, name) for name in names},
        )

    def close(self) -> None:
        """Write out what is recorded, and let go of the models."""
        if self._ab is not None:
            self._ab.close()
        self._ab = None

    @property
    def refiner(self) -> ABRefiner:
        """The loaded experiment."""
        if self._ab is None:
            raise RuntimeError("the stage is not loaded; call load() first")
        return self._ab

    def steps(self, frames: int | None) -> int:
        """The most that any arm takes; a prompt that falls back takes more."""
        refiners: Iterable[Any] = self.refiner.router.arms.values()
        return max(refiner.plan().steps_for(frames or 1) for refiner in refiners)

    def run(self, request: StageRequest) -> StageResult:
        """Refine `request.clip` with its arm."""
        if request.clip is None:
            raise ValueError("a refiner needs a clip; the cascade's base made none")
        unit = f"{request.seed} {request.prompt or ''}"
        result = self.refiner(
            request.clip,
            unit=unit,
            seed=request.seed,
            on_step=request.on_step,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
        )
        given = self.refiner.assign(unit)
        arm = {"experiment": self.options.experiment, "assigned": given.arm, "reason": given.reason}
        return StageResult(result.clip, {**result.receipt, "ab": arm})
