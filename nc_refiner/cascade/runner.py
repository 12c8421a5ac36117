"""Runs a cascade: stage by stage over all prompts, so that each model is loaded once and freed before the next."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from ..config.document import ConfigError
from .config import CascadeConfig
from .outcome import ItemOutcome, Summary
from .plan import Plan
from .prompts import Item
from .records import StageFolder, write_json
from .stages.base import KINDS, Kind
from .work import Before, Work, finish, words

__all__ = ["CascadeRunner", "alone_in"]

Progress = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]


def _silent(stage: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
    return nullcontext(lambda word: None)


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """The folder `root`, which is made, is this run's alone; ConfigError where another is at work in it."""
    from filelock import FileLock, Timeout

    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"another run is at work in {root}; wait for it or choose another --output") from None
    try:
        yield
    finally:
        lock.release()


class CascadeRunner:
    """One run of a cascade.

    Args:
        config: the checked config.
        prompts: instead of the config's own.
        items: instead of prompts and of the clips the base would bring, as `read_manifest` returns them.
        output: instead of the config's own.
        resume: keep stages whose config, inputs and code are still the same; False refuses a folder with results.
        stop_after: the last stage to run.
        progress: called with a stage and its number of steps; a context manager that yields what to call after each.

    Raises:
        ConfigError, ImportError, FileNotFoundError, ValueError: what cannot work here; nothing was written.
    """

    def __init__(
        self,
        config: CascadeConfig,
        *,
        prompts: list[str] | None = None,
        items: list[Item] | None = None,
        output: Path | None = None,
        resume: bool = False,
        stop_after: Kind | None = None,
        progress: Progress = _silent,
    ):
        self.config, self.resume, self.progress = config, resume, progress
        self.plan = Plan(config, prompts=prompts, items=items, output=output, stop_after=stop_after)
        if self.plan.url is not None:
            raise ConfigError(f"output is {self.plan.url}; a run in one process writes to a folder: add --workers 1")
        self.items, self.root = self.plan.items, self.plan.root
        self.plan.check_root(resume)

    def run(self) -> Summary:
        """Run every stage for every prompt.

        Returns:
            What became of each prompt; it never raises for a stage that fails.

        Raises:
            ConfigError: another run is at work in the same folder.
            OSError: the folder cannot be made.
        """
        with alone_in(self.root):
            return self._run()

    def _run(self) -> Summary:
        summary = Summary(self.root, [ItemOutcome(item, self.root / item.name) for item in self.items])
        reached: dict[str, Before] = {}
        for leftover in self.root.glob("*/.scratch-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for kind in self.plan.kinds:
            self._stage(self.plan.work(kind), summary, reached)
            write_json(self.root / "summary.json", summary.report())
        summary.stopped_after = self.plan.stop_after
        if summary.stopped_after is None:
            for outcome in summary.items:
                if not outcome.failed:
                    self._finish(outcome)
        write_json(self.root / "summary.json", summary.report())
        return summary

    def _stage(self, work: Work, summary: Summary, reached: dict[str, Before]) -> None:
        """One stage over every prompt that is still in the run; `reached` becomes what it left."""
        kind, stage = work.kind, work.stage
        waiting: list[tuple[ItemOutcome, str]] = []
        for outcome in summary.items:
            if outcome.failed:
                continue
            name = outcome.item.name
            try:
                fingerprint = work.fingerprint(outcome.item, reached.get(name))
            except OSError as error:  # a source that is gone
                self._failed(kind, outcome, error)
                continue
            kept = StageFolder(self.root / name, kind).finished(fingerprint)
            if kept is not None and kept.fallback is None:
                reached[name], outcome.stages[kind] = Before(kind, kept), "skipped"
            else:
                waiting.append((outcome, fingerprint))
        if not waiting:
            return
        try:
            stage.load()
            total = sum(stage.steps(_frames(reached.get(outcome.item.name))) for outcome, _ in waiting)
            with self.progress(kind, total) as advance:
                for outcome, fingerprint in waiting:
                    self._one(work, outcome, fingerprint, reached, advance)
        except Exception as error:  # a model that does not load fails its stage for every prompt, in words
            for outcome, _ in waiting:
                if kind not in outcome.stages:
                    self._failed(kind, outcome, error)
        finally:
            stage.close()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _one(
        self,
        work: Work,
        outcome: ItemOutcome,
        fingerprint: str,
        reached: dict[str, Before],
        advance: Callable[[str], None],
    ) -> None:
        name = outcome.item.name
        try:
            made = work.make(outcome.item, self.root / name, fingerprint, reached.get(name), advance)
        except Exception as error:  # one prompt's failure must not stop the others
            self._failed(work.kind, outcome, error)
            return
        reached[name] = Before(work.kind, made)
        outcome.stages[work.kind] = "done" if made.fallback is None else "fallback"
        if made.fallback is not None:
            outcome.notes.append(made.fallback)

    @staticmethod
    def _failed(kind: Kind, outcome: ItemOutcome, error: Exception) -> None:
        outcome.stages[kind] = "failed"
        outcome.error = f"{kind}: {words(error)}"

    def _finish(self, outcome: ItemOutcome) -> None:
        folder = self.root / outcome.item.name
        final = self.plan.single or folder / "final.mp4"
        try:
            finish(folder, [kind for kind in KINDS if kind in outcome.stages], final)
            outcome.final = final
        except Exception as error:  # a full disk at the end is this prompt's failure too
            outcome.error = f"finishing: {words(error)}"


def _frames(before: Before | None) -> int | None:
    return None if before is None else before.finished.frames
