"""`ABRefiner`: an experiment that is called like a refiner; `ABPipeline`: the same around anything else."""

from __future__ import annotations

import inspect
import os
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import torch

from ...clip import VideoClip
from ...refiner import RefinedClip
from ..store.database import Store
from ..store.events import Assignment
from ..store.recorder import Recorder
from .assignment import Split
from .options import RouterOptions
from .routing import Described, Router

__all__ = ["ABPipeline", "ABRefiner"]

StoreLike = str | os.PathLike[str] | Store | Recorder | None
OF_SPLIT = [field for field in fields(Split) if field.init and field.name not in ("experiment", "weights")]
Init = TypeVar("Init", bound=Callable[..., None])


def _options_by_name(init: Init) -> Init:
    """Show, in place of `**options`, the fields they go to."""
    signature = inspect.signature(init)
    named = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in (*OF_SPLIT, *fields(RouterOptions))
    ]
    shown = signature.replace(parameters=[*list(signature.parameters.values())[:-1], *named])
    init.__signature__ = shown  # type: ignore[attr-defined]
    return init


class ABPipeline:
    """An A/B test around callables that take the same arguments, such as a pipeline and its `nc_refiner.wrap` twin.

    Args:
        arms: name → callable; the first is the control unless `control` names another.
        experiment: its name.
        weights: arm → weight; default: equal.
        store: URL or path of a database, a `Store`, or a `Recorder`; None: nothing is recorded.
        durable: commit every record to the local disk before its request is answered, so that even `kill -9` takes
            none with it; else it takes those of the last 0.2 s.
        options: fields of `Split` (`control`, `salt`, `ramp`, `holdout`, `holdout_name`, `layer`, `slots`) and of
            `RouterOptions` (`assigner`, `mode`, `guardrails`, `evaluate`, `switch_file`, `poll_seconds`, `telemetry`,
            `queue`, `takes_on_step`), where they are described.

    Raises:
        TypeError: an option that is none.
        ValueError: something out of range, or arms that share a model where they would run at the same time.
        ImportError: SQLAlchemy, or the database's driver, is not installed.
        OSError, sqlite3.Error: the outbox cannot be written.

    Examples:
        >>> ab = ABPipeline({"control": lambda x: x, "double": lambda x: 2 * x}, "demo", ramp=0.0)
        >>> ab(3, unit="user-1")
        3
    """

    @_options_by_name
    def __init__(
        self,
        arms: Mapping[str, Callable[..., Any]],
        experiment: str,
        weights: Mapping[str, float] | None = None,
        store: StoreLike = None,
        *,
        durable: bool = False,
        **options: Any,
    ):
        shares = dict.fromkeys(arms, 1.0) if weights is None else weights
        split = Split(
            experiment, shares, **{field.name: options.pop(field.name) for field in OF_SPLIT if field.name in options}
        )
        chosen = RouterOptions(**options)
        recorder = _recorder(store, durable)
        try:
            self.router = Router(arms, split, recorder, chosen, _describe)
        except BaseException:
            if recorder is not None and recorder is not store:
                recorder.close(0)
            raise

    def __call__(self, *args: Any, unit: str | None = None, **kwargs: Any) -> Any:
        """The output of the arm that `unit` is given; without a unit every call is one of its own."""
        return self.router.call(unit or uuid.uuid4().hex, args, kwargs)

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
        """Undo `stop`, or that a guardrail switched off `arm`."""
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


class ABRefiner(ABPipeline):
    """An A/B test of refiners that is called like a refiner.

    The output of the control arm is bit-identical to the control refiner's alone. Arguments are those of `ABPipeline`;
    arms are refiners: `CalibratedRefiner`, or anything with its call.

    Examples:
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


def _recorder(store: StoreLike, durable: bool) -> Recorder | None:
    if store is None or isinstance(store, Recorder):
        return store
    return Recorder(store if isinstance(store, Store) else Store(store), durable=durable)
