"""What a run will do, checked before anything is written: its stages, its items, where they go."""

from __future__ import annotations

from pathlib import Path

from ..config.document import ConfigError
from .config import CascadeConfig
from .prompts import Item, plan_items
from .sources import is_url
from .stages import Stage, stage_class
from .stages.base import Kind
from .work import Work

__all__ = ["Plan"]


class Plan:
    """A run of a cascade before it starts.

    Args:
        config: the checked config.
        prompts: instead of the config's own.
        items: instead of prompts and of the clips the base would bring.
        output: instead of the config's own; a folder, a name ending in `.mp4`, or the URL of a folder.
        stop_after: the last stage to run.

    Attributes:
        stages: those that run, in order.
        items: the runs through the cascade.
        url: where the output is a URL; else None.
        root: the folder of the output; for a URL a name only.
        single: the one file that was asked for; else None.

    Raises:
        ConfigError, ImportError, FileNotFoundError, ValueError: what cannot work here.
    """

    def __init__(
        self,
        config: CascadeConfig,
        *,
        prompts: list[str] | None = None,
        items: list[Item] | None = None,
        output: Path | str | None = None,
        stop_after: Kind | None = None,
    ):
        self.config, self.stop_after = config, stop_after
        every: list[tuple[Kind, Stage]] = [
            (kind, stage_class(kind, options.type)(options)) for kind, options in config.stages()
        ]
        names = [kind for kind, _ in every]
        if stop_after is not None and stop_after not in names:
            raise ConfigError(f"there is no {stop_after} stage to stop after; this cascade has: {', '.join(names)}")
        for _, stage in every:
            stage.check()
        self.stages = every if stop_after is None else every[: names.index(stop_after) + 1]
        self.items = self._items(prompts, every[0][1]) if items is None else items
        if items is not None:
            self._check_sources(items, every[0][1])
        place = str(output or config.output)
        self.url = place.rstrip("/") if is_url(place) else None
        target = Path(place)
        self.single = target if target.suffix.lower() == ".mp4" else None
        if self.single is not None and (len(self.items) > 1 or self.url is not None):
            raise ConfigError(f"output is {place}, one file, but {len(self.items)} clips will be made; give a folder")
        self.root = target.with_suffix("") if self.single is not None else target

    def _items(self, prompts: list[str] | None, base: Stage) -> list[Item]:
        texts = self.config.prompts if prompts is None else prompts
        return plan_items(texts, self.config.seed, base.sources())

    def _check_sources(self, items: list[Item], base: Stage) -> None:
        takes = type(base).sources is not Stage.sources
        if not takes and any(item.source is not None for item in items):
            raise ConfigError(
                f"the manifest names sources, but the base {self.config.base.type!r} takes no clips; "
                "write 'base: {type: file}', or leave the column out"
            )
        without = next((item.name for item in items if item.source is None), None)
        if takes and without is not None:
            raise ConfigError(
                f"the base {self.config.base.type!r} takes clips, but the manifest names no source for {without}"
            )

    @property
    def kinds(self) -> list[Kind]:
        """The stages that run, by kind."""
        return [kind for kind, _ in self.stages]

    def check_root(self, resume: bool) -> None:
        """ConfigError where the output folder is a file, or holds results and `resume` is False."""
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"output: {self.root} is a file; give a folder, or a name ending in .mp4")
        if not resume and self.root.is_dir() and any(self.root.glob("*/*.done.json")):
            raise ConfigError(earlier_run(self.root))

    def work(self, kind: Kind) -> Work:
        """The work of one stage."""
        return Work(self.config, kind, dict(self.stages)[kind], self.root)


def earlier_run(place: object) -> str:
    """What to say of an output that holds results."""
    return (
        f"{place} holds an earlier run; pass --resume to go on with it (what has changed is made anew), "
        "or choose another --output"
    )
