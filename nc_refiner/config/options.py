"""Options as users write them: checked strictly, frozen, unknown keys refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import BaseModel, ConfigDict

__all__ = ["Options", "StageOptions"]


class Options(BaseModel):
    """A section of a config. Subclasses add fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def check_keys(self, unknown: Callable[[tuple[str, ...], Iterable[str]], None]) -> None:
        """Check what only the code behind an option knows; call `unknown(location, allowed)` for a key it has not."""
        return None


class StageOptions(Options):
    """Options of a stage, as written under its key. Subclasses add fields; `type` is the stage's registered name."""

    type: str
