"""What is known of an item on its way through the stages: names, digests and states, never pixels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ..records import Finished
from ..work import Before

__all__ = ["State"]


@dataclass
class State:
    """An item's way so far.

    Attributes:
        stages: kind → `done`, `skipped`, `fallback` or `failed`.
        seconds, tries: of each stage.
        notes: what stands in for what.
        before: the last finished stage.
        error, cause: why the item failed; None where it did not.
        final: path or URL of the final clip.
        worker: where it failed.
        content_loss, evaluations: from the receipts: of the refiner, and of all networks together.
    """

    stages: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    before: Before | None = None
    error: str | None = None
    cause: str | None = None
    final: str | None = None
    worker: str | None = None
    content_loss: list[float] | None = None
    evaluations: int = 0

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, text: str) -> State:
        """From JSON."""
        data: dict[str, Any] = json.loads(text)
        before = data.pop("before", None)
        if before is not None:
            before = Before(before["kind"], Finished(**before["finished"]))
        return cls(**data, before=before)
