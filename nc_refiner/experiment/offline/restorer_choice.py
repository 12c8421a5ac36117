"""A restorer as an experiment or a sweep names it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from ...baselines.restorer_names import restorers as known_restorers
from .sections import NAME, Strict, known

__all__ = ["RestorerChoice", "Restoring"]


class RestorerChoice(Strict):
    """A registered restorer and its options; `label` is what tables call it, where one name stands twice."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    label: Annotated[str | None, Field(pattern=f"^{NAME.pattern}$")] = None

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str) -> str:
        known("restorer", name, known_restorers())
        return name

    @property
    def method(self) -> str:
        """What its arm is called."""
        return self.label or self.name


def _restorer(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Restoring = Annotated[RestorerChoice, BeforeValidator(_restorer)]
