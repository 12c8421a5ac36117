"""A restorer as an experiment or a sweep names it in YAML; and what the keys of both files are checked with."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from ...baselines.restorer_names import restorers as known_restorers
from ...naming import did_you_mean

__all__ = ["NAME", "RestorerChoice", "Restoring", "Strict", "known"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Strict(BaseModel):
    """A section of a file: no key but those it has, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def known(what: str, found: str, allowed: Any) -> None:
    """Raises ValueError, with the nearest name, where `found` is none of those allowed."""
    if found not in allowed:
        hint = did_you_mean(found, allowed, before="; ")
        raise ValueError(f"{what} is {found!r}; allowed: {', '.join(allowed)}{hint}")


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
