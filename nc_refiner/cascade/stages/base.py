"""The contract of a stage: options, what it is asked, what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from ...clip import VideoClip
from ...config.options import StageOptions

__all__ = ["KINDS", "Kind", "Source", "Stage", "StageOptions", "StageRequest", "StageResult"]

Kind = Literal["base", "interpolation", "refiner"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Source:
    """An input that a base stage brings itself: a name for its folder, and its prompt where it has one.

    `url`: where it lies if that is not this machine; `path` is then of no use until it was fetched.
    """

    name: str
    prompt: str | None
    path: Path
    url: str | None = None


@dataclass(frozen=True)
class StageRequest:
    """What a stage is asked to do for one prompt.

    Attributes:
        prompt, negative_prompt: the texts; None where there is none.
        seed: 0 to 2⁶³ − 1; everything random must follow from it.
        clip: what the stage before made; None for a base.
        source: what `Stage.sources` returned for this prompt.
        on_step: call it with a short word after each of `Stage.steps` steps.
        folder: an empty folder the stage may use; removed afterwards.
    """

    prompt: str | None
    negative_prompt: str | None
    seed: int
    clip: VideoClip | None
    source: Source | None
    on_step: Callable[[str], None]
    folder: Path


@dataclass(frozen=True)
class StageResult:
    """The clip a stage made, and what it says about the making: JSON-ready, `degradations` for what a person must
    know."""

    clip: VideoClip
    receipt: dict[str, Any] = field(default_factory=dict)


class Stage(ABC):
    """One stage, built from its checked options; register it with `register_stage(kind, name)`.

    A stage is loaded once, run for every prompt, closed. The same request must give the same clip, bit for bit.
    """

    Options: ClassVar[type[StageOptions]] = StageOptions

    def __init__(self, options: Any):
        self.options = options

    def check(self) -> None:
        """Find out cheaply whether this stage can run here; called before anything is written.

        Raises:
            ValueError, ImportError, FileNotFoundError: what is missing and what to do.
        """
        return None

    def sources(self) -> list[Source] | None:
        """Only a base: the inputs it brings, one run of the cascade each; None where prompts decide."""
        return None

    def load(self) -> None:
        """Load models; called once, before the first `run`."""
        return None

    def close(self) -> None:
        """Let go of everything `load` loaded."""
        return None

    def steps(self, frames: int | None) -> int:
        """How often `run` calls `on_step` for a clip of `frames` frames."""
        return 1

    def identity(self) -> dict[str, Any]:
        """What besides options, request and code decides the result: content of weights, versions. JSON-ready."""
        return {}

    def reads(self) -> Any:
        """What `run` reads beside the request: data in which every text that names a file or folder counts. When one of
        them changes, a finished stage is made again. Default: the options."""
        return self.options.model_dump(mode="json")

    @abstractmethod
    def run(self, request: StageRequest) -> StageResult:
        """Make the clip. Whatever it raises is this prompt's failure, not the run's."""

    def run_uncalibrated(self, request: StageRequest) -> StageResult | None:
        """Only a refiner: the same by plain SDEdit, which `on_refiner_failure: sdedit` falls back to; None where the
        stage has no such way."""
        return None
