"""Answers jobs: through an experiment's router where there are arms, straight where there is one refiner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..cascade.stages.ab import ABOptions
from ..experiment.live.assignment import Split
from ..experiment.live.budgets import Guardrails
from ..experiment.live.options import RouterOptions
from ..experiment.live.routing import Router
from ..experiment.live.telemetry import Telemetry
from ..experiment.store import Store
from ..experiment.store.recorder import Recorder
from .config import ServingConfig
from .desk import Cancelled
from .jobs import Job, JobFolder
from .worker import Done, Work

__all__ = ["Service"]

Arm = Callable[..., Done]


class Service:
    """What stands between jobs and refiners.

    Args:
        config: the checked file. base: the folder that its paths are relative to.
        arms: name → a callable of `Work`, with `on_start` and `on_step`.
        folder: of the jobs.
        telemetry: for the router.

    Raises:
        ValueError, ImportError, OSError: the store or its outbox cannot be made.
    """

    def __init__(
        self,
        config: ServingConfig,
        base: Path,
        arms: Mapping[str, Arm],
        folder: JobFolder,
        telemetry: Telemetry | None = None,
    ):
        self._config, self._arms, self._folder = config, dict(arms), folder
        self._router = None if config.experiment is None else self._routed(config.experiment, base, telemetry)

    def _routed(self, experiment: ABOptions, base: Path, telemetry: Telemetry | None) -> Router:
        weights = experiment.weights or dict.fromkeys(experiment.arms, 1.0)
        names = ("salt", "ramp", "holdout", "holdout_name", "layer")
        split = Split(
            experiment.experiment,
            weights,
            control=next(iter(experiment.arms)),
            slots=(experiment.slots[0], experiment.slots[1]),
            **{name: getattr(experiment, name) for name in names},
        )
        options = RouterOptions(
            mode=experiment.mode,
            guardrails=Guardrails(**experiment.guardrails.model_dump()),
            switch_file=None if experiment.switch_file is None else base / experiment.switch_file,
            telemetry=telemetry,
            takes_on_step=True,
        )
        recorder = Recorder(Store(self._store(experiment.store, base)), durable=True)
        try:
            return Router(self._arms, split, recorder, options, lambda done: (done.content_loss, done.receipt))
        except BaseException:
            recorder.close(0)
            raise

    def _store(self, named: str | None, base: Path) -> str:
        if named is None:
            return str((self._folder.root / "records.db").resolve())
        return named if "://" in named else str((base / named).resolve())

    def arm(self, unit: str) -> str:
        """The arm whose workers do the jobs of `unit`."""
        if self._router is None:
            return next(iter(self._arms))
        return self._router.control if self._router.mode == "shadow" else self._router.assign(unit).arm

    def answer(self, job: Job) -> Done:
        """Do one job, recorded once under its id.

        Raises:
            Cancelled: its client has. Otherwise what the refiner (of an experiment: the control) raises.
        """
        server = self._config.serve
        work = Work(
            self._folder.clip(job).read_bytes(),
            job.suffix,
            job.settings,
            job.seed,
            server.max_frames,
            server.max_height * server.max_width,
        )

        def on_start(total: int) -> None:
            if job.state == "running":
                job.done, job.total = 0, total

        def on_step(stage: str) -> None:
            if job.cancelled.is_set():
                raise Cancelled
            job.done = min(job.done + 1, job.total)

        if self._router is None:
            (arm,) = self._arms.values()
            return arm(work, on_start=on_start, on_step=on_step)
        kwargs: dict[str, Any] = {"on_start": on_start, "on_step": on_step}
        done: Done = self._router.call(job.unit, (work,), kwargs, job.seed, job.id)
        return done

    def close(self, seconds: float) -> bool:
        """Finish shadow runs and write every record out; False if that took longer."""
        return self._router is None or self._router.close(seconds)
