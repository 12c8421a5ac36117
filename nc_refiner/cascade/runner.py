"""Runs a cascade: stage by stage over all prompts, so that each model is loaded once and freed before the next."""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from ..clip import VideoClip
from ..config.document import ConfigError
from ..files import AtomicFile, digest
from ..video import contact_sheet
from .config import CascadeConfig
from .exchange import rounded
from .fingerprint import code_version, digest_of, named_files
from .outcome import ItemOutcome, Summary
from .prompts import Item, plan_items
from .records import Finished, StageFolder, write_json
from .stages import Stage, StageRequest, StageResult, stage_class
from .stages.base import KINDS, Kind

__all__ = ["CascadeRunner"]

Progress = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]
LABELS = {"base": "base", "interpolation": "interpolated", "refiner": "refined"}
SHEET_FRAMES = 4


def _silent(stage: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
    return nullcontext(lambda word: None)


class CascadeRunner:
    """One run of a cascade.

    Args:
        config: the checked config.
        prompts: instead of the config's own.
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
        output: Path | None = None,
        resume: bool = False,
        stop_after: Kind | None = None,
        progress: Progress = _silent,
    ):
        self.config, self.resume, self.progress = config, resume, progress
        self.stages: list[tuple[Kind, Stage]] = [
            (kind, stage_class(kind, options.type)(options)) for kind, options in config.stages()
        ]
        if stop_after is not None and stop_after not in dict(self.stages):
            raise ConfigError(
                f"there is no {stop_after} stage to stop after; this cascade has: {', '.join(dict(self.stages))}"
            )
        self.stop_after = stop_after
        for _, stage in self.stages:
            stage.check()
        texts = config.prompts if prompts is None else prompts
        self.items = plan_items(texts, config.seed, self.stages[0][1].sources())
        target = output or Path(config.output)
        self.single = target if target.suffix.lower() == ".mp4" else None
        if self.single is not None and len(self.items) > 1:
            raise ConfigError(f"output is {target}, one file, but {len(self.items)} clips will be made; give a folder")
        self.root = target.with_suffix("") if self.single is not None else target
        self._check_root()

    def _check_root(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"output: {self.root} is a file; give a folder, or a name ending in .mp4")
        if not self.resume and self.root.is_dir() and any(self.root.glob("*/*.done.json")):
            raise ConfigError(
                f"{self.root} holds an earlier run; pass --resume to go on with it (what has changed is made anew), "
                "or choose another --output"
            )

    def run(self) -> Summary:
        """Run every stage for every prompt.

        Returns:
            What became of each prompt; it never raises for a stage that fails.

        Raises:
            ConfigError: another run is at work in the same folder.
            OSError: the folder cannot be made.
        """
        from filelock import FileLock, Timeout

        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            with lock:
                return self._run()
        except Timeout:
            raise ConfigError(
                f"another run is at work in {self.root}; wait for it or choose another --output"
            ) from None

    def _run(self) -> Summary:
        summary = Summary(self.root, [ItemOutcome(item, self.root / item.name) for item in self.items])
        finished: dict[str, Finished] = {}
        for leftover in self.root.glob("*/.scratch-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for kind, stage in self.stages:
            self._stage(kind, stage, summary, finished)
            write_json(self.root / "summary.json", summary.report())
            if kind == self.stop_after:
                summary.stopped_after = kind
                break
        if summary.stopped_after is None:
            for outcome in summary.items:
                if not outcome.failed:
                    self._finish(outcome)
        write_json(self.root / "summary.json", summary.report())
        return summary

    def _stage(self, kind: Kind, stage: Stage, summary: Summary, finished: dict[str, Finished]) -> None:
        """One stage over every prompt that is still in the run; `finished` becomes what it left."""
        waiting: list[tuple[ItemOutcome, str]] = []
        for outcome in summary.items:
            if outcome.failed:
                continue
            fingerprint = self._fingerprint(kind, stage, outcome.item, finished.get(outcome.item.name))
            before = StageFolder(outcome.folder, kind).finished(fingerprint)
            if before is not None and before.fallback is None:
                finished[outcome.item.name], outcome.stages[kind] = before, "skipped"
            else:
                waiting.append((outcome, fingerprint))
        if not waiting:
            return
        try:
            stage.load()
            total = sum(stage.steps(self._frames(outcome.item, finished)) for outcome, _ in waiting)
            with self.progress(kind, total) as advance:
                for outcome, fingerprint in waiting:
                    self._one(kind, stage, outcome, fingerprint, finished, advance)
        except Exception as error:  # a model that does not load fails its stage for every prompt, in words
            for outcome, _ in waiting:
                if kind not in outcome.stages:
                    self._failed(kind, outcome, error)
        finally:
            stage.close()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @staticmethod
    def _frames(item: Item, finished: dict[str, Finished]) -> int | None:
        before = finished.get(item.name)
        return None if before is None else before.frames

    def _one(
        self,
        kind: Kind,
        stage: Stage,
        outcome: ItemOutcome,
        fingerprint: str,
        finished: dict[str, Finished],
        advance: Callable[[str], None],
    ) -> None:
        try:
            outcome.folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".scratch-", dir=outcome.folder) as scratch:
                request = self._request(outcome, finished, Path(scratch), advance)
                result, fallback = self._result(kind, stage, request)
            clip = rounded(result.clip)
            receipt = {"stage": kind, "options": self._options(kind), **result.receipt}
            if fallback is not None:
                receipt["degradations"] = [*receipt.get("degradations", []), fallback]
                outcome.notes.append(fallback)
            finished[outcome.item.name] = StageFolder(outcome.folder, kind).write(clip, receipt, fingerprint, fallback)
            outcome.stages[kind] = "done" if fallback is None else "fallback"
        except Exception as error:  # one prompt's failure must not stop the others
            self._failed(kind, outcome, error)

    @staticmethod
    def _failed(kind: Kind, outcome: ItemOutcome, error: Exception) -> None:
        outcome.stages[kind] = "failed"
        outcome.error = f"{kind}: {_words(error)}"

    def _request(
        self, outcome: ItemOutcome, finished: dict[str, Finished], scratch: Path, advance: Callable[[str], None]
    ) -> StageRequest:
        item, clip = outcome.item, self._before(outcome, finished)
        return StageRequest(item.prompt, self.config.negative_prompt, item.seed, clip, item.source, advance, scratch)

    def _before(self, outcome: ItemOutcome, finished: dict[str, Finished]) -> VideoClip | None:
        if outcome.item.name not in finished:
            return None
        last = [kind for kind in KINDS if outcome.stages.get(kind) in ("done", "skipped", "fallback")][-1]
        return StageFolder(outcome.folder, last).read()

    def _result(self, kind: Kind, stage: Stage, request: StageRequest) -> tuple[StageResult, str | None]:
        """What the stage made; or, for a refiner that failed, what the config says instead, and why."""
        try:
            return stage.run(request), None
        except Exception as error:
            policy = self.config.on_refiner_failure
            if kind != "refiner" or policy == "fail" or request.clip is None:
                raise
            why = _words(error)
            plain = stage.run_uncalibrated(request) if policy == "sdedit" else None
            if plain is not None:
                return plain, f"refined without calibration, because the refiner failed: {why}"
            return StageResult(request.clip), f"not refined, passed through, because the refiner failed: {why}"

    def _options(self, kind: Kind) -> dict[str, object]:
        return {"kind": kind, **getattr(self.config, kind).model_dump(mode="json")}

    def _fingerprint(self, kind: Kind, stage: Stage, item: Item, before: Finished | None) -> str:
        options = self._options(kind)
        return digest_of(
            {
                "code": code_version(),
                "options": options,
                "files": named_files(stage.reads(), self.root),
                "identity": stage.identity(),
                "prompt": item.prompt,
                "negative_prompt": self.config.negative_prompt,
                "seed": item.seed,
                "source": None if item.source is None or kind != "base" else digest(item.source.path),
                "input": None if before is None else before.clip_digest,
            }
        )

    def _finish(self, outcome: ItemOutcome) -> None:
        """The final clip under its own name, and every stage side by side in one picture."""
        kinds = [kind for kind in KINDS if kind in outcome.stages]
        try:
            outcome.final = self.single or outcome.folder / "final.mp4"
            outcome.final.parent.mkdir(parents=True, exist_ok=True)
            _copy(StageFolder(outcome.folder, kinds[-1]).video, outcome.final)
            clips = {LABELS[kind]: StageFolder(outcome.folder, kind).read().frames for kind in kinds}
            contact_sheet(clips, outcome.folder / "contact.png", SHEET_FRAMES)
        except Exception as error:  # a full disk at the end is this prompt's failure too
            outcome.error, outcome.final = f"finishing: {_words(error)}", None


def _copy(source: Path, target: Path) -> None:
    with AtomicFile(target) as file:
        shutil.copyfile(source, file.temporary)
        file.commit()


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    named = f"{type(error).__name__}: {text}" if isinstance(error, (KeyError, IndexError, AttributeError)) else text
    return named or type(error).__name__
