"""A run of a cascade on Ray, from start to end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...config.document import ConfigError
from ...naming import one_line
from ..config import CascadeConfig
from ..fingerprint import code_version
from ..outcome import ItemOutcome, Summary
from ..plan import Plan, earlier_run
from ..prompts import Item
from ..stages.base import Kind
from .alone import alone
from .destination import Destination, at
from .job import Job
from .pipeline import stream
from .pools import needed_cpus, pools
from .reporting import Counter
from .results import Results
from .session import require_ray, session
from .state import State
from .summary import causes

__all__ = ["ClusterRunner", "Watch"]

Watch = Callable[[dict[str, Any]], None]
"""Called with each event: `start`, `begin`, `stage`, `clip`, `end`; see `ClusterRunner`."""
POLL = 1.0
FRUITLESS = 3
"""Rounds without a single clip after which Ray is given up."""


class ClusterRunner:
    """One run of a cascade on Ray: the same files as `CascadeRunner` makes, and a table of results beside them.

    Args:
        config: the checked config; each stage's `resources` say what its workers take.
        workers: of each pool that does not say; None: as many as fit.
        address: `host:port` or `auto` of a Ray cluster that runs; None starts Ray on this machine.
        prompts, items, output, resume, stop_after: as `CascadeRunner`; the output may be a URL.
        timeout: seconds a stage may take for one clip; None: any.
        max_attempts: tries of a clip whose process dies or runs too long.
        retry_failed: with `resume`, try again what failed in earlier runs.
        watch: called with every event, a JSON-ready dict with `event`: `start` (`clips`, `stages`, `pools`), `begin`
            and `stage` (of one clip: `stage`, `name`, `state`, `cause`, `seconds`), `clip` (its row of the table),
            `end` (the report). It runs in a thread of its own for some, one at a time.

    Raises:
        ConfigError, ImportError, FileNotFoundError, ValueError: what cannot work here; nothing was written.
    """

    def __init__(
        self,
        config: CascadeConfig,
        *,
        workers: int | None = None,
        address: str | None = None,
        prompts: list[str] | None = None,
        items: list[Item] | None = None,
        output: Path | str | None = None,
        resume: bool = False,
        stop_after: Kind | None = None,
        timeout: float | None = None,
        max_attempts: int = 2,
        retry_failed: bool = False,
        watch: Watch | None = None,
    ):
        require_ray()
        for name, value in (("workers", workers), ("timeout", timeout), ("max_attempts", max_attempts)):
            if value is not None and value <= 0:
                raise ConfigError(f"{name.replace('_', '-')} is {value}; it must be above 0")
        self.plan = Plan(config, prompts=prompts, items=items, output=output, stop_after=stop_after)
        self.workers, self.address = workers, address
        self.run_id = uuid.uuid4().hex[:12]
        self.place: Destination = at(self.plan.url or str(self.plan.root))
        self.plan.check_root(resume) if self.plan.url is None else self._check_url(resume)
        self.job = Job(
            config=config,
            stages=tuple((kind, type(stage)) for kind, stage in self.plan.stages),
            place=self.plan.url or str(self.plan.root.absolute()),
            single=None if self.plan.single is None else str(self.plan.single),
            finishing=stop_after is None,
            folder=os.getcwd(),
            run=self.run_id,
            timeout=timeout,
            attempts=max_attempts,
            again=retry_failed,
            code=code_version(),
        )
        self._watch = watch
        self._lock = threading.Lock()

    def _check_url(self, resume: bool) -> None:
        try:
            holds = self.place.holds_results()
        except Exception as error:  # every file system has errors of its own
            raise ConfigError(f"output: {self.plan.url} cannot be reached ({one_line(error)})") from None
        if holds and not resume:
            raise ConfigError(earlier_run(self.plan.url))

    @property
    def root(self) -> str:
        """Folder or URL of the output."""
        return self.plan.url or str(self.plan.root)

    def run(self) -> Summary:
        """Bring every item through the stages.

        Returns:
            What became of each; it never raises for a stage that fails.

        Raises:
            ConfigError: another run is at work in the same place; no Ray, or other versions; too few resources.
        """
        with alone(self.place, self.run_id):
            cpus = needed_cpus(self.plan.config, self.plan.kinds, self.workers or 1)
            with session(self.address, cpus, self.job.packed()) as capacity:
                return self._run(pools(self.plan.config, self.plan.kinds, self.workers, capacity))

    def _run(self, found: list[Any]) -> Summary:
        summary = Summary(self.root, [ItemOutcome(item, self.place.where(item.name)) for item in self.plan.items])
        summary.stopped_after = self.plan.stop_after
        if self.plan.url is None:
            for leftover in self.plan.root.glob("*/.scratch-*"):
                shutil.rmtree(leftover, ignore_errors=True)
        table = Results(self.place, self.plan.items, self.plan.kinds, self.run_id)
        shown = [{"stages": list(pool.kinds), "actors": pool.actors} for pool in found]
        self._say({"event": "start", "clips": len(self.plan.items), "stages": self.plan.kinds, "pools": shown})
        try:
            with self._counted() as counter:
                self._rounds(found, summary, table, counter)
        finally:
            table.compact()
            self._write_summary(summary)
        self._say({"event": "end", **report(summary)})
        return summary

    def _rounds(self, found: list[Any], summary: Summary, table: Results, counter: str | None) -> None:
        """Send what has not come out through the pools again, until all has: Ray may give up a worker's items."""
        waiting = {outcome.item.name: outcome for outcome in summary.items}
        fruitless, why = 0, "it did not come out of its pool"
        packed = self.job.packed()
        while waiting and fruitless < FRUITLESS:
            before = len(waiting)
            coming = stream(packed, found, [one.item for one in waiting.values()], counter)
            while True:
                try:
                    name, state = next(coming)
                except StopIteration:
                    break
                except Exception as error:  # Ray has an error of every kind; what is on disk decides what is left
                    why = one_line(error)
                    break
                if name in waiting:
                    self._came_out(waiting.pop(name), state, table)
            fruitless = fruitless + 1 if len(waiting) == before else 0
        for outcome in waiting.values():
            self._came_out(outcome, State(cause="lost", error=f"Ray did not run it: {why}"), table)

    def _came_out(self, outcome: ItemOutcome, state: State, table: Results) -> None:
        outcome.stages = dict(state.stages)  # type: ignore[arg-type]
        outcome.error, outcome.cause, outcome.notes = state.error, state.cause, state.notes
        outcome.final = state.final
        row = table.add(outcome.item, state, self.place.where(outcome.item.name))
        self._say({"event": "clip", **row})

    def _write_summary(self, summary: Summary) -> None:
        self.place.write(
            "summary.json", (json.dumps(report(summary), indent=2, ensure_ascii=False) + "\n").encode("utf-8")
        )

    def _say(self, event: dict[str, Any]) -> None:
        if self._watch is not None:
            with self._lock:
                self._watch(event)

    @contextmanager
    def _counted(self) -> Iterator[str | None]:
        """The actor that counts, and a thread that asks it; nothing where no one watches."""
        if self._watch is None:
            yield None
            return
        import ray

        name = f"nc_refiner-progress-{self.run_id}"
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Counter)
        handle = actor.options(name=name).remote()
        over = threading.Event()

        def ask() -> None:
            while True:
                last = over.wait(POLL)
                # Counts are for the eye: an actor that is just starting anew is asked again.
                with contextlib.suppress(Exception):
                    for event in ray.get(handle.take.remote(), timeout=30):
                        self._say(event)
                if last:
                    return

        thread = threading.Thread(target=ask, name="nc_refiner-progress", daemon=True)
        thread.start()
        try:
            yield name
        finally:
            over.set()
            thread.join(10)
            with contextlib.suppress(Exception):
                ray.kill(handle)


def report(summary: Summary) -> dict[str, Any]:
    """The summary of a run on Ray, JSON-ready: as a serial run's, with its failures grouped by cause."""
    return {**summary.report(), "causes": causes(summary.items)}
