"""What the sections of an experiment's file and of a sweep's have in common."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from ...naming import did_you_mean

__all__ = ["NAME", "Strict", "known"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Strict(BaseModel):
    """A section of a file: no key but those it has, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def known(what: str, found: str, allowed: Any) -> None:
    """Raises ValueError, with the nearest name, where `found` is none of those allowed."""
    if found not in allowed:
        hint = did_you_mean(found, allowed, before="; ")
        raise ValueError(f"{what} is {found!r}; allowed: {', '.join(allowed)}{hint}")
