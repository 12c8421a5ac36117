"""What a run did, prompt by prompt and stage by stage; what `--json` prints and `summary.json` holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .prompts import Item

__all__ = ["ItemOutcome", "StageState", "Summary"]

StageState = Literal["done", "skipped", "failed", "fallback"]


@dataclass
class ItemOutcome:
    """One prompt: its folder, the state of each stage that was reached, why it failed, and its final clip.

    `cause`: in a run on Ray, what kind of failure it was. There, folder and final clip may be URLs.
    """

    item: Item
    folder: Path | str
    stages: dict[str, StageState] = field(default_factory=dict)
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    final: Path | str | None = None
    cause: str | None = None

    @property
    def failed(self) -> bool:
        """Whether a stage failed and nothing stood in for it."""
        return self.error is not None

    def report(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.item.name,
            "prompt": self.item.prompt,
            "seed": self.item.seed,
            "folder": str(self.folder),
            "stages": dict(self.stages),
            "error": self.error,
            **({} if self.cause is None else {"cause": self.cause}),
            "notes": list(self.notes),
            "final": None if self.final is None else str(self.final),
        }


@dataclass
class Summary:
    """A whole run."""

    output: Path | str
    items: list[ItemOutcome]
    stopped_after: str | None = None

    @property
    def failed(self) -> list[ItemOutcome]:
        """The prompts that failed."""
        return [item for item in self.items if item.failed]

    def report(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "output": str(self.output),
            "stopped_after": self.stopped_after,
            "failed": len(self.failed),
            "items": [item.report() for item in self.items],
        }
