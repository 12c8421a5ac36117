"""Rivals that restore, in sweeps and in experiments: the same for every host, so their cells name none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ...baselines.restorer import Restorer, RestoringBaseline, restored
from ...baselines.restorer_names import create_restorer
from ...clip import VideoClip
from ...evaluation.measure import measure_frames
from ...refining.receipt import versions
from ...refining.resize import output_size, resized
from ...refining.settings import RefineSettings
from .arms import Arm
from .clips import InputClip
from .restorer_choice import RestorerChoice
from .results import cell_key
from .sweep_config import PlanBase

__all__ = ["Restorers"]

Row = dict[str, Any]


class Restorers:
    """Restorers by what the plan calls them.

    Args:
        restorers: name of the arm → restorer.
    """

    def __init__(self, restorers: Mapping[str, Restorer]):
        self._built = dict(restorers)

    @classmethod
    def built(cls, choices: Mapping[str, RestorerChoice]) -> Restorers:
        """Build what the arms of an experiment name; equal choices share one. Errors as `create_restorer`."""
        made: dict[str, Restorer] = {}
        for choice in choices.values():
            key = choice.model_dump_json(include={"name", "options"})
            if key not in made:
                made[key] = create_restorer(choice.name, **choice.options)
        return cls({arm: made[one.model_dump_json(include={"name", "options"})] for arm, one in choices.items()})

    @classmethod
    def of(cls, choices: Iterable[RestorerChoice]) -> Restorers:
        """The same for those of a plan."""
        return cls.built({choice.method: choice for choice in choices})

    def __contains__(self, method: object) -> bool:
        return method in self._built

    def described(self) -> dict[str, Any]:
        """What an experiment's manifest holds of them: nothing where there are none."""
        return {"restorers": {arm: restorer.describe() for arm, restorer in self._built.items()}} if self._built else {}

    def run(self, method: str, clip: InputClip, settings: RefineSettings) -> tuple[Tensor, dict[str, Any]]:
        """One arm of an experiment: its frames and its receipt."""
        asked = {name: getattr(settings, name) for name in ("seed", "size", "scale")}
        given = VideoClip(clip.frames, clip.fps)
        found = RestoringBaseline(self._built[method])(given, prompt=settings.prompt or clip.prompt, **asked)
        return found.clip.frames, dict(found.receipt)

    def key(self, clip: InputClip, plan: PlanBase, arm: Arm) -> str:
        """The key of a cell: all that a restorer's row depends on."""
        restorer = self._built[arm.method]
        return cell_key(
            clip=clip.digest,
            arm={"method": arm.method, "seed": arm.seed if restorer.seeded else None},
            restorer=restorer.describe(),
            prompt=plan.prompt or clip.prompt,
            sized={name: plan.described[name] for name in ("size", "scale") if name in plan.described},
            metrics=list(plan.metrics),
            versions=versions(),
        )

    def rows(
        self, clip: InputClip, plan: PlanBase, arms: Iterable[Arm], kept: Callable[[Arm, Tensor], Row]
    ) -> Iterator[tuple[Arm, Row]]:
        """Each arm with what it came to; one that draws nothing is run once for all seeds."""
        done: dict[str, Row] = {}
        settings = _sized(plan)
        size = output_size(settings, *(int(side) for side in clip.frames.shape[-2:]))
        shown = resized(clip.frames, settings)
        original = None if clip.original is None else resized(clip.original, settings)
        for arm in arms:
            key = self.key(clip, plan, arm)
            if key not in done:
                prompt = plan.prompt or clip.prompt
                frames = restored(self._built[arm.method], clip.frames, size, prompt, arm.seed or 0)
                names = (*plan.metrics, *(("psnr_to_original",) if original is not None else ()))
                done[key] = {**measure_frames(shown, frames, names, original=original), **kept(arm, frames)}
            yield arm, done[key]


def _sized(plan: PlanBase) -> RefineSettings:
    """The size the plan asks for."""
    return RefineSettings(**{name: plan.described[name] for name in ("size", "scale") if name in plan.described})
