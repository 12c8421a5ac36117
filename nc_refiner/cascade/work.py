"""One item through one stage: what a run in one process and the workers of a cluster both do, so that both leave the
same files and each goes on where the other stopped."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..files import AtomicFile
from ..video import contact_sheet
from .config import CascadeConfig
from .exchange import rounded
from .fingerprint import code_version, digest_of, named_files
from .prompts import Item
from .records import Finished, StageFolder
from .sources import local_source, source_mark
from .stages import Stage, StageRequest, StageResult
from .stages.base import KINDS, Kind

__all__ = ["Before", "Work", "finish", "words"]

LABELS = {"base": "base", "interpolation": "interpolated", "refiner": "refined"}
SHEET_FRAMES = 4


@dataclass(frozen=True)
class Before:
    """What an item has reached: the last finished stage, and what it left."""

    kind: Kind
    finished: Finished


class Work:
    """One stage of a run, for any item.

    Args:
        config: of the cascade.
        kind, stage: which stage; it need not be loaded but for `make`.
        root: the folder the run writes into, of which nothing counts as read.
    """

    def __init__(self, config: CascadeConfig, kind: Kind, stage: Stage, root: Path):
        self.config, self.kind, self.stage, self.root = config, kind, stage, root

    @property
    def options(self) -> dict[str, object]:
        """The stage's options as its receipt holds them."""
        return {"kind": self.kind, **getattr(self.config, self.kind).model_dump(mode="json")}

    @cached_property
    def _same_for_all(self) -> dict[str, Any]:
        """What every item's result depends on; weights are hashed once, not once an item."""
        return {
            "code": code_version(),
            "options": self.options,
            "files": named_files(self.stage.reads(), self.root),
            "identity": self.stage.identity(),
            "negative_prompt": self.config.negative_prompt,
        }

    def fingerprint(self, item: Item, before: Before | None) -> str:
        """SHA-256 of all the result depends on; raises OSError for a source that cannot be read."""
        source = item.source if self.kind == "base" else None
        return digest_of(
            {
                **self._same_for_all,
                "prompt": item.prompt,
                "seed": item.seed,
                "source": None if source is None else source_mark(source),
                "input": None if before is None else before.finished.clip_digest,
            }
        )

    def make(
        self, item: Item, folder: Path, fingerprint: str, before: Before | None, on_step: Callable[[str], None]
    ) -> Finished:
        """Run the loaded stage for `item` and leave its files, the record last, in `folder`, which is made.

        Returns:
            What was left; its `fallback` says what stands in for a refiner that failed.

        Raises:
            Exception: whatever the stage raises; then there is no record.
        """
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder) as scratch:
            clip = None if before is None else StageFolder(folder, before.kind).read()
            source = None if item.source is None else local_source(item.source, Path(scratch))
            request = StageRequest(
                item.prompt, self.config.negative_prompt, item.seed, clip, source, on_step, Path(scratch)
            )
            result, fallback = self._result(request)
        receipt = {"stage": self.kind, "options": self.options, **result.receipt}
        if fallback is not None:
            receipt["degradations"] = [*receipt.get("degradations", []), fallback]
        return StageFolder(folder, self.kind).write(rounded(result.clip), receipt, fingerprint, fallback)

    def _result(self, request: StageRequest) -> tuple[StageResult, str | None]:
        """What the stage made; or, for a refiner that failed, what the config says instead, and why."""
        try:
            return self.stage.run(request), None
        except Exception as error:
            policy = self.config.on_refiner_failure
            if self.kind != "refiner" or policy == "fail" or request.clip is None:
                raise
            why = words(error)
            plain = self.stage.run_uncalibrated(request) if policy == "sdedit" else None
            if plain is not None:
                return plain, f"refined without calibration, because the refiner failed: {why}"
            return StageResult(request.clip), f"not refined, passed through, because the refiner failed: {why}"


def finish(folder: Path, ran: list[Kind], final: Path) -> None:
    """The last stage's clip under its final name, and every stage of `ran` side by side in one picture.

    Raises:
        Exception: a full disk, above all.
    """
    kinds = [kind for kind in KINDS if kind in ran]
    final.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(final) as file:
        shutil.copyfile(StageFolder(folder, kinds[-1]).video, file.temporary)
        file.commit()
    clips = {LABELS[kind]: StageFolder(folder, kind).read().frames for kind in kinds}
    contact_sheet(clips, folder / "contact.png", SHEET_FRAMES)


def words(error: BaseException) -> str:
    """An exception as one line; never empty."""
    text = " ".join(str(error).split())
    named = f"{type(error).__name__}: {text}" if isinstance(error, (KeyError, IndexError, AttributeError)) else text
    return named or type(error).__name__
