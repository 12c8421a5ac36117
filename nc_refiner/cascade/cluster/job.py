"""What every worker of a run needs to know, as plain data that crosses machines; and an item as such data."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import CascadeConfig
from ..prompts import Item
from ..stages import Stage
from ..stages.base import Kind, Source

__all__ = ["Job", "item_from", "item_to"]


@dataclass(frozen=True)
class Job:
    """A run, as its workers know it.

    Attributes:
        config: of the cascade.
        stages: the stages that run, in order, and their classes.
        place: folder or URL of the output.
        single: the one file that was asked for.
        finishing: whether finished clips get their final name.
        folder: the driver's working directory, which relative paths in the config mean.
        run: identity of this run.
        timeout: seconds a stage may take for one clip; None: any.
        attempts: tries that may end in a death or a timeout.
        again: whether what failed in earlier runs is tried again.
        code: digest of the driver's package.
    """

    config: CascadeConfig
    stages: tuple[tuple[Kind, type[Stage]], ...]
    place: str
    single: str | None
    finishing: bool
    folder: str
    run: str
    timeout: float | None
    attempts: int
    again: bool
    code: str

    def packed(self) -> bytes:
        """As bytes; classes of a script that is not installed go along."""
        from ray import cloudpickle

        return bytes(cloudpickle.dumps(self))

    @staticmethod
    def unpacked(packed: bytes) -> Job:
        """What `packed` held, in the driver's working directory, which becomes this process's.

        Raises:
            FileNotFoundError: this machine has no such folder.
        """
        found: Job = pickle.loads(packed)
        try:
            os.chdir(found.folder)
        except OSError:
            raise FileNotFoundError(
                f"the folder {found.folder} is not on {os.uname().nodename}; start from a folder all machines share"
            ) from None
        return found

    def stage(self, kind: Kind) -> Stage:
        """The stage, not loaded."""
        return dict(self.stages)[kind](getattr(self.config, kind))


def item_to(item: Item) -> dict[str, Any]:
    """JSON-ready; extra columns stay behind."""
    source = item.source
    about = None if source is None else [source.name, source.prompt, str(source.path), source.url]
    return {"name": item.name, "prompt": item.prompt, "seed": item.seed, "source": about}


def item_from(data: dict[str, Any]) -> Item:
    """The item that `item_to` wrote down."""
    about = data["source"]
    source = None if about is None else Source(about[0], about[1], Path(about[2]), about[3])
    return Item(data["name"], data["prompt"], data["seed"], source)
