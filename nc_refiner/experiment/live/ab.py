"""`ABRefiner`: an experiment that is called like a refiner; `ABPipeline`: the same around anything else."""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...clip import VideoClip
from ...refiner import RefinedClip
from ..store.database import Store
from ..store.recorder import Recorder
from .assignment import Assignment, Split
from .budgets import Guardrails
from .routing import Assigner, Described, Router
from .telemetry import Telemetry

__all__ = ["ABPipeline", "ABRefiner"]

StoreLike = str | os.PathLike[str] | Store | Recorder | None


class _Experiment:
    """What `ABRefiner` and `ABPipeline` share: making the router, and handling it."""

    router: Router

    @property
    def experiment(self) -> str:
        """Its name."""
        return self.router.experiment

    def assign(self, unit: str) -> Assignment:
        """The arm of `unit`, whether or not it is on; nothing is recorded."""
        return self.router.assign(unit)

    def stop(self, reason: str = "stopped", arm: str = "") -> None:
        """Kill switch: everyone is given the control (`arm`: those of that arm), from now on here, and within
        `poll_seconds` in every process with the same store."""
        self.router.stop(reason, arm)

    def resume(self, reason: str = "resumed", arm: str = "") -> None:
        """Undo `stop`, or a guardrail's verdict on `arm`."""
        self.router.resume(reason, arm)

    def is_off(self, arm: str) -> bool:
        """Whether `arm` is switched off, by whatever means."""
        return self.router.switch.is_off(arm)

    def outcome(self, unit: str, metric: str, value: float) -> bool:
        """Record what became of `unit` later, under its arm; False where it is not in the experiment."""
        return self.router.outcome(unit, metric, value)

    def wait(self, timeout: float = 30.0) -> bool:
        """Wait until shadow runs, evaluations and writes are done; False when `timeout` seconds did not suffice."""
        return self.router.wait(timeout)

    def close(self, timeout: float = 30.0) -> bool:
        """Finish what is queued and write everything out; False if the database did not take it in `timeout` seconds,
        in which case the rest waits on disk for the next start."""
        return self.router.close(timeout)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ABPipeline(_Experiment):
    """An A/B test around callables that take the same arguments, such as a pipeline and its `nc_refiner.wrap` twin.

    Args:
        arms: name → callable; the first is the control unless `control` names another.
        experiment: its name.
        weights: arm → weight; default: equal.
        store: URL or path of a database, a `Store`, or a `Recorder`; None: nothing is recorded.
        control, salt, ramp, holdout, holdout_name, layer, slots: fields of `Split`.
        assigner: decides instead of the hash, for example a `FlagAssigner`.
        mode: `live` or `shadow`.
        guardrails: `Guardrails` of every arm but the control; or by arm.
        evaluate: `evaluate(arguments, output)` gives metric → number; runs off the request path.
        switch_file: while this file exists the arms named in it are off, all if it is empty.
        poll_seconds: how often that file and the store are looked at.
        telemetry: see `Observability`.
        queue: shadow runs and evaluations that may wait.
        takes_on_step: whether every arm takes `on_step=`, called after each step.

    Raises:
        ValueError: something out of range, or arms that share a model where they would run at the same time.
        ImportError: SQLAlchemy, or the database's driver, is not installed. OSError: the journal cannot be written.

    Example:
        >>> ab = ABPipeline({"control": lambda x: x, "double": lambda x: 2 * x}, "demo", ramp=0.0)
        >>> ab(3, unit="user-1")
        3
    """

    def __init__(
        self,
        arms: Mapping[str, Callable[..., Any]],
        experiment: str,
        weights: Mapping[str, float] | None = None,
        store: StoreLike = None,
        *,
        control: str = "",
        salt: str = "",
        ramp: float = 1.0,
        holdout: float = 0.0,
        holdout_name: str = "global",
        layer: str | None = None,
        slots: tuple[float, float] = (0.0, 1.0),
        assigner: Assigner | None = None,
        mode: str = "live",
        guardrails: Guardrails | Mapping[str, Guardrails] | None = None,
        evaluate: Callable[[tuple[Any, ...], Any], Mapping[str, float]] | None = None,
        switch_file: str | os.PathLike[str] | None = None,
        poll_seconds: float = 1.0,
        telemetry: Telemetry | None = None,
        queue: int = 8,
        takes_on_step: bool = False,
    ):
        shares = dict.fromkeys(arms, 1.0) if weights is None else weights
        split = Split(experiment, shares, control, salt, ramp, holdout, holdout_name, layer, slots)
        recorder = _recorder(store)
        try:
            self.router = Router(
                arms,
                split,
                assigner=assigner,
                mode=mode,
                guardrails=guardrails,
                recorder=recorder,
                evaluate=evaluate,
                switch_file=None if switch_file is None else Path(switch_file),
                poll_seconds=poll_seconds,
                telemetry=telemetry,
                queue=queue,
                describe=_describe,
                takes_on_step=takes_on_step,
            )
        except BaseException:
            if recorder is not None and recorder is not store:
                recorder.close(0)
            raise

    def __call__(self, *args: Any, unit: str | None = None, **kwargs: Any) -> Any:
        """The output of the arm that `unit` is given; without a unit every call is one of its own."""
        return self.router.call(unit or uuid.uuid4().hex, args, kwargs)


class ABRefiner(ABPipeline):
    """An A/B test of refiners that is called like a refiner.

    The output of the control arm is bit-identical to the control refiner's alone. Arguments are those of `ABPipeline`;
    arms are refiners: `CalibratedRefiner`, or anything with its call.

    Example:
        >>> from nc_refiner import CalibratedRefiner
        >>> control = CalibratedRefiner.from_name("embedded", iterations=0)
        >>> ab = ABRefiner({"control": control, "nc": control.with_calibration(iterations=3)}, "sharper")
        >>> result = ab(VideoClip(torch.rand(4, 3, 32, 32)), strength=0.2, num_inference_steps=10, unit="user-1")
        >>> ab.assign("user-1").arm in ("control", "nc")
        True
    """

    def __init__(self, arms: Mapping[str, Callable[..., Any]], experiment: str, *args: Any, **options: Any):
        options.setdefault("takes_on_step", True)
        super().__init__(arms, experiment, *args, **options)

    def __call__(  # type: ignore[override]
        self,
        clip: VideoClip,
        *,
        unit: str | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        on_step: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> RefinedClip:
        """Refine `clip` with the arm its unit is given.

        Args:
            clip: as for `CalibratedRefiner`.
            unit: who or what is assigned; default: the clip's prompt and seed where it has a seed, so that the same
                clip always gets the same arm, else every call is a unit of its own.
            generator, seed, on_step, settings: as for `CalibratedRefiner`. Without generator and seed one is drawn, so
                that every arm that runs for this request uses the same.

        Raises:
            What the control raises.
        """
        if unit is None:
            unit = uuid.uuid4().hex if clip.seed is None else f"{clip.seed} {clip.prompt or ''}"
        if generator is None and seed is None:
            seed = secrets.randbits(63)
        given = {"generator": generator, "seed": seed, "on_step": on_step}
        settings.update({name: value for name, value in given.items() if value is not None})
        result: RefinedClip = self.router.call(unit, (clip,), settings, seed)
        return result


def _describe(output: Any) -> Described:
    if isinstance(output, RefinedClip):
        return output.trace.content_loss, output.receipt
    return (), None


def _recorder(store: StoreLike) -> Recorder | None:
    if store is None or isinstance(store, Recorder):
        return store
    return Recorder(store if isinstance(store, Store) else Store(store))
