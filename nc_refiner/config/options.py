"""Options as users write them: checked strictly, frozen, unknown keys refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Options", "Resources", "StageOptions"]


class Options(BaseModel):
    """A section of a config. Subclasses add fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def check_keys(self, unknown: Callable[[tuple[str, ...], Iterable[str]], None]) -> None:
        """Check what only the code behind an option knows; call `unknown(location, allowed)` for a key it has not."""
        return None


class Resources(BaseModel):
    """What one worker of a stage takes, and how many there are, in a run on Ray (`--workers`, `--ray`).

    Attributes:
        gpus: GPUs of one worker, a part of one too.
        cpus: processors of one worker.
        actors: how many workers. None: `--workers`, or as many as fit.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    gpus: Annotated[float, Field(ge=0, le=1024)] | None = None
    cpus: Annotated[float, Field(ge=0, le=1024)] | None = None
    actors: Annotated[int, Field(ge=1, le=100_000)] | None = None


class StageOptions(Options):
    """Options of a stage, as written under its key. Subclasses add fields; `type` is the stage's registered name.

    `resources` say where a stage runs, not what it makes: neither receipts nor fingerprints hold them.
    """

    type: str
    resources: Resources | None = Field(
        None, exclude=True, description="What a worker of this stage takes on Ray: `gpus`, `cpus`, `actors`."
    )
