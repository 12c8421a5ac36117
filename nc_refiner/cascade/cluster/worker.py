"""What an actor does: takes an item, brings it through its stages, and says what became of it. It never raises for an
item, since Ray would stop the run or try without end."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, cast

from ...files import digest
from ..prompts import Item
from ..records import StageFolder
from ..stages.base import Kind
from ..work import Before, Work, words
from .attempts import FILE, Attempts, Cause, cause_of, read
from .destination import Destination, at
from .job import Job, item_from, item_to
from .reporting import Reporting
from .state import State
from .supervisor import Died, Supervisor

__all__ = ["Worker"]


class Worker:
    """Brings items through some stages of a run, one at a time.

    Args:
        packed: the job.
        kinds: the stages, neighbours, in order.
        reports: name of the actor that counts; None: nothing is counted.
    """

    def __init__(self, packed: bytes, kinds: list[Kind], reports: str | None = None):
        self.job = Job.unpacked(packed)
        self.kinds = kinds
        self.place: Destination = at(self.job.place)
        self.works = {kind: Work(self.job.config, kind, self.job.stage(kind), self.place.root) for kind in kinds}
        self.process = Supervisor(packed, self.place.root.absolute())
        self.name = f"{os.uname().nodename}:{os.getpid()}"
        self.tell = Reporting(reports)
        # What can be waited for now is not waited for by the first clip; a process that cannot start says why there.
        with contextlib.suppress(Died):
            self.process.start()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of `item` and `state`, both JSON; the same with what was done."""
        item, state = item_from(json.loads(row["item"])), State.read(row["state"])
        if state.error is None:
            try:
                self._bring(item, state)
            except Exception as error:  # `_Failed` has said why already
                if state.error is None:
                    with contextlib.suppress(_Failed):
                        self._fail(state, self._at(state), cause_of(error), words(error))
        return {"item": row["item"], "state": state.text()}

    def _bring(self, item: Item, state: State) -> None:
        self.place.open(item.name)
        try:
            for kind in self.kinds:
                self.tell.begins(kind, item.name)
                began = time.time()
                try:
                    self._stage(kind, item, state)
                finally:
                    self.tell.ends(kind, item.name, state.stages.get(kind, "failed"), state.cause, began)
            if self.job.finishing and self.kinds[-1] == self.job.stages[-1][0]:
                self._finish(item, state)
        finally:
            self.place.close(item.name)

    def _stage(self, kind: Kind, item: Item, state: State) -> None:
        folder = self.place.root / item.name
        stage, work, before = StageFolder(folder, kind), self.works[kind], state.before
        try:
            fingerprint = work.fingerprint(item, before)
        except OSError as error:
            self._fail(state, kind, "failed", words(error))
        kept = self.place.finished(stage, fingerprint)
        if kept is not None and kept.fallback is None:
            self.place.bring(item.name, [stage.receipt.name])
            self._reached(stage, kind, state, Before(kind, kept), "skipped")
            return
        job = self.job
        attempts = Attempts(folder, kind, fingerprint, job.run, job.attempts, job.again)
        while True:
            verdict = attempts.verdict()
            state.tries[kind] = len(attempts.tries)
            if verdict is not None:
                self._fail(state, kind, verdict.cause, verdict.error)
            attempts.begin(self.name)
            self.place.put(item.name, [FILE])
            how, answer, seconds = self._try(kind, item, fingerprint, before)
            if how == "ok":
                self.place.put(item.name, [path.name for path in (*stage.files(), stage.record)])
                attempts.end("done", None, seconds)
                self.place.put(item.name, [FILE])
                state.tries[kind] = len(attempts.tries)
                made = Before(kind, answer)
                self._reached(stage, kind, state, made, "done" if answer.fallback is None else "fallback")
                return
            attempts.end(how, answer)
            self.place.put(item.name, [FILE])

    def _try(self, kind: Kind, item: Item, fingerprint: str, before: Before | None) -> tuple[Any, Any, float]:
        """How it went, what came of it, and the seconds it took once the model was there."""
        folder = (self.place.root / item.name).absolute()
        if before is not None:
            self.place.bring(item.name, [StageFolder(folder, before.kind).frames.name])
        # Files of another making must not stand under a record.
        self.place.remove(f"{item.name}/{kind}.done.json")
        began = time.perf_counter()
        try:
            how, answer = self.process.ask("load", kind)
            began = time.perf_counter()
            if how == "ok":
                order = (kind, item_to(item), folder, fingerprint, before)
                how, answer = self.process.ask("make", *order, timeout=self.job.timeout)
        except Died as died:
            how, answer = died.how, str(died)
        return how, answer, time.perf_counter() - began

    def _finish(self, item: Item, state: State) -> None:
        folder = (self.place.root / item.name).absolute()
        last = StageFolder(folder, self.kinds[-1])
        final = Path(self.job.single).absolute() if self.job.single is not None else folder / "final.mp4"
        ran = [kind for kind, _ in self.job.stages]
        state.final = str(self.job.single or self.place.where(f"{item.name}/final.mp4"))
        if all(state.stages[kind] == "skipped" for kind in ran) and self._finished_before(item, last, final):
            return
        self.place.bring(item.name, [last.video.name, *(StageFolder(folder, kind).frames.name for kind in ran)])
        try:
            how, answer = self.process.ask("finish", folder, ran, final, timeout=self.job.timeout)
        except Died as died:
            how, answer = died.how, str(died)
        if how != "ok":
            state.final = None
            self._fail(state, "finishing", cast("Cause", how), answer)
        self.place.put(item.name, ["final.mp4", "contact.png"])

    def _finished_before(self, item: Item, last: StageFolder, final: Path) -> bool:
        if self.place.url is not None:
            return {"final.mp4", "contact.png"} <= set(self.place.names(item.name))
        with contextlib.suppress(OSError):
            return (last.folder / "contact.png").is_file() and digest(final) == digest(last.video)
        return False

    def _reached(self, stage: StageFolder, kind: Kind, state: State, reached: Before, how: str) -> None:
        state.stages[kind], state.before = how, reached
        known = read(stage.folder).get(kind, {}).get("tries", [])
        done = [one for one in known if one.get("how") == "done"]
        if done and done[-1].get("seconds") is not None:
            state.seconds[kind] = done[-1]["seconds"]
        state.tries.setdefault(kind, len(known))
        receipt = json.loads(stage.receipt.read_text(encoding="utf-8"))
        state.content_loss = receipt.get("content_loss", state.content_loss)
        state.evaluations += sum(receipt.get("evaluations", {}).values())
        if reached.finished.fallback is not None:
            state.notes.append(reached.finished.fallback)

    def _at(self, state: State) -> str:
        """The stage that an item was in."""
        return next((kind for kind in self.kinds if kind not in state.stages), "finishing")

    def _fail(self, state: State, kind: str, cause: Cause, error: str) -> None:
        if kind in self.kinds:
            state.stages[kind] = "failed"
        state.cause, state.error, state.worker = cause, f"{kind}: {error}", self.name
        raise _Failed


class _Failed(Exception):
    """Leaves the stages of an item whose failure is in its state."""
