"""Masks that are found in the frames themselves, by name."""

from __future__ import annotations

from ..mask import Mask

__all__ = ["ready_mask"]


def ready_mask(name: str) -> Mask | None:
    """The ready mask `name`; None where there is none of that name."""
    return None
