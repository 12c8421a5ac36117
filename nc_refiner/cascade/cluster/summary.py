"""Failures in few words: those with one cause are one line, however many clips they took."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..outcome import ItemOutcome

__all__ = ["causes"]

NAMED = 10
"""Clips that a group names; the table has them all."""


def causes(outcomes: Iterable[ItemOutcome]) -> list[dict[str, Any]]:
    """The failures, grouped by stage, cause and text, numbers and names of the clip aside; the largest group first.

    Returns:
        `cause`, `error` of the first, `clips` (how many), `names` (the first ten); JSON-ready.
    """
    groups: dict[tuple[str, str], list[ItemOutcome]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            alike = re.sub(r"\d+(\.\d+)?", "#", outcome.error.replace(outcome.item.name, "…"))
            if outcome.item.source is not None:
                alike = alike.replace(re.sub(r"\d+(\.\d+)?", "#", str(outcome.item.source.path)), "…")
            groups.setdefault((outcome.cause or "failed", alike), []).append(outcome)
    return [
        {
            "cause": cause,
            "error": group[0].error,
            "clips": len(group),
            "names": [outcome.item.name for outcome in group[:NAMED]],
        }
        for (cause, _), group in sorted(groups.items(), key=lambda one: -len(one[1]))
    ]
