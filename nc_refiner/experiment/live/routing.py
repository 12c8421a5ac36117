"""The router: one call in, one arm's output out, whatever the other arms do."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..store.events import Assignment, SwitchState
from ..store.recorder import Recorder
from ..store.records import Failure, Outcome, SwitchRecord, new_id
from .assignment import Split
from .attempts import Attempts, CallersOwn, failure_kind, failure_message, share_a_model
from .options import Assigner, RouterOptions
from .request import Arguments, Request
from .shielded import Shielded
from .switch import EVERYTHING, Switch
from .telemetry import NoTelemetry
from .threads import Worker

__all__ = ["Router"]

log = logging.getLogger(__name__)

Described = tuple[tuple[float, ...], Mapping[str, Any] | None]


class Router:
    """Routes calls among arms that take the same arguments; `ABRefiner` and `ABPipeline` are made of it.

    The control runs in the request's own thread with the caller's own arguments, and its errors are the caller's. Any
    other arm that fails hands the request to the control. The noise is the same for every arm.

    Args:
        arms: name → callable.
        split: how units are shared out, and which arm is the control.
        recorder: where to record; None: nowhere. `close` closes it.
        options: everything else.
        describe: content loss per iteration and receipt of an output.

    Attributes:
        evaluations_dropped: evaluations that found the queue full.

    Raises:
        ValueError: arms that do not fit the split, or that would have to run at the same time on one model.
    """

    def __init__(
        self,
        arms: Mapping[str, Callable[..., Any]],
        split: Split,
        recorder: Recorder | None = None,
        options: RouterOptions | None = None,
        describe: Callable[[Any], Described] = lambda output: ((), None),
    ):
        options = options or RouterOptions()
        if len(arms) < 2:
            raise ValueError(f"the arms are {', '.join(arms) or 'none'}; a test needs a control and at least one other")
        if not set(split.weights) <= set(arms):
            raise ValueError(f"weights name {', '.join(split.weights)}; the arms are {', '.join(arms)}")
        self.arms, self.split, self.mode = dict(arms), split, options.mode
        self.control, self.experiment = split.control, split.experiment
        self._others = [name for name in arms if name != self.control]
        if self.mode == "shadow" and any(share_a_model(arms[name], arms[self.control]) for name in self._others):
            raise ValueError(
                "in shadow mode arms run beside the control and must not share an adapter with it; build one for each"
            )
        self._assigner: Assigner = options.assigner or split
        self._attempts = Attempts(self.arms, self.control, options.guardrails, options.takes_on_step)
        self._recorder, self._evaluate, self._describe = recorder, options.evaluate, describe
        self._telemetry = Shielded(options.telemetry or NoTelemetry())
        file = None if options.switch_file is None else Path(options.switch_file)
        self.switch = Switch(file, None if recorder is None else self._stored, options.poll_seconds, self._switched)
        self._queue, self._pid = options.queue, os.getpid()
        self._worker = Worker("nc-refiner-shadow", options.queue)
        self.evaluations_dropped = 0
        if recorder is not None:
            self._telemetry.recorder(self.experiment, recorder)
        for name in (EVERYTHING, *arms):
            self._telemetry.switch(self.experiment, name, True)
        self.switch.start()

    # Switching

    def stop(self, reason: str = "stopped", arm: str = EVERYTHING) -> None:
        """Switch off an arm, or everything: at once here, within `poll_seconds` in processes on the same store."""
        self._set_switch(arm, False, reason)

    def resume(self, reason: str = "resumed", arm: str = EVERYTHING) -> None:
        """Switch on again what `stop`, a guardrail or the store switched off; a switch file goes on to count."""
        self._set_switch(arm, True, reason)

    def _set_switch(self, arm: str, on: bool, reason: str) -> None:
        if arm != EVERYTHING and arm not in self.arms:
            raise ValueError(f"there is no arm {arm!r}; the arms are {', '.join(self.arms)}")
        state = self.switch.set(arm, on, reason)
        if self._recorder is not None:
            self._recorder.put(SwitchRecord(self.experiment, state))

    def _stored(self) -> Iterable[SwitchState]:
        store = self._recorder.store if self._recorder is not None else None
        return store.switches(self.experiment) if store is not None and store.migrated else ()

    def _switched(self, state: SwitchState) -> None:
        what = f"arm {state.arm}" if state.arm else "everything"
        log.warning("%s: %s switched %s: %s", self.experiment, what, "on" if state.on else "off", state.reason)
        if state.on:
            for name in [state.arm] if state.arm else self._others:
                self._attempts.reset(name)
        self._telemetry.switch(self.experiment, state.arm, state.on)

    def _count(self, name: str, failed: bool) -> None:
        reason = self._attempts.count(name, failed)
        if reason is not None and not self.switch.is_off(name):
            self._set_switch(name, False, f"guardrail: {reason}")

    # Requests

    def assign(self, unit: str) -> Assignment:
        """The arm of `unit`, whether or not it is on; the control where an assigner of the team's own fails."""
        try:
            given = self._assigner.assign(unit)
        except Exception:
            log.exception("%s: no arm could be assigned", self.experiment)
            return Assignment(self.control, "default")
        return given if given.arm in self.arms else Assignment(self.control, "default")

    def call(
        self,
        unit: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        seed: int | None = None,
        request_id: str | None = None,
    ) -> Any:
        """Answer one request.

        Args:
            unit: who or what is assigned.
            args, kwargs: the arms' arguments.
            seed: for the record, where it is known.
            request_id: of the record, at most 40 characters; a request that is answered again under the same one is
                recorded once. Default: a fresh one.

        Raises:
            Whatever the control raises, and what the caller's own `on_step` raises.
        """
        started = time.perf_counter()
        if self._pid != os.getpid():
            self._after_fork()
        given = self.assign(unit)
        if self.mode == "shadow":
            given = Assignment(self.control, given.reason)
        off = self.switch.is_off(given.arm)
        counts = given.exposed and not off and sum(not self.switch.is_off(name) for name in self.arms) >= 2
        request = Request(self.experiment, unit, given, seed, time.time(), off, counts, request_id or new_id())
        # States of generators are kept only where a second arm may need them.
        arguments = Arguments(args, kwargs) if given.arm != self.control or self.mode == "shadow" else None
        output: Any = None
        answered = False
        try:
            with self._telemetry.span("request", self.experiment, arm=given.arm, reason=given.reason) as span:
                output = self._answer(request, args, kwargs, arguments)
                span.set_attribute("nc_refiner.ab.served", request.served)
            answered = True
        finally:
            self._finish(request, output, time.perf_counter() - started, answered, args, arguments)
        return output

    def _answer(
        self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: Arguments | None
    ) -> Any:
        arm = request.given.arm
        if arm != self.control and not request.off and arguments is not None:
            fresh = arguments.fresh()
            try:
                with self._telemetry.span("arm", self.experiment, arm=arm):
                    output = self._attempts.call(arm, fresh.args, fresh.kwargs)
            except CallersOwn as own:
                raise own.error from None
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit too: an arm ends no one's program
                request.failure = Failure(arm, failure_kind(error), failure_message(error))
                log.warning("%s: %s failed, the control takes over: %s", self.experiment, arm, request.failure.message)
            else:
                arguments.advance_to(fresh)
                self._count(arm, False)
                request.served = arm
                return output
        output = self.arms[self.control](*args, **kwargs)
        request.served = self.control
        if request.failure is not None:
            self._count(arm, True)
        return output

    def _finish(
        self,
        request: Request,
        output: Any,
        seconds: float,
        answered: bool,
        args: tuple[Any, ...],
        arguments: Arguments | None,
    ) -> None:
        try:
            self._telemetry.request(self.experiment, request.given, request.served, seconds)
            if request.failure is not None:
                self._telemetry.failure(self.experiment, request.failure.arm, request.failure.kind)
            paired = answered and arguments is not None and self.mode == "shadow" and self._shadow(request, arguments)
            if self._recorder is None:
                return
            loss, receipt = self._describe(output) if answered else ((), None)
            self._recorder.put(request.record(seconds, loss, receipt, request.counts and self.mode == "live", paired))
            measured = paired or (request.counts and self.mode == "live")
            if self._evaluate is not None and answered and measured and request.served == request.given.arm:
                accepted = self._worker.submit(lambda: self._measure(request, request.given.arm, args, output, paired))
                self._telemetry.evaluation(self.experiment, request.given.arm, accepted)
                self._dropped_evaluations(0 if accepted else 1)
        except Exception:  # the answer is ready: nothing about its record may take it away
            log.exception("%s: a request could not be recorded", self.experiment)

    def _dropped_evaluations(self, count: int) -> None:
        if count and not self.evaluations_dropped:
            log.error("%s: evaluations are dropped: more than %d would wait", self.experiment, self._queue)
        self.evaluations_dropped += count

    def _measure(self, request: Request, arm: str, args: tuple[Any, ...], output: Any, paired: bool) -> None:
        if self._evaluate is None or self._recorder is None:
            return
        pair = request.id if paired else None
        for metric, value in self._evaluate(args, output).items():
            outcome = Outcome(
                self.experiment, request.unit, arm, metric, float(value), request.at, request.id, pair, request.seed
            )
            self._recorder.put(outcome)

    def _shadow(self, request: Request, arguments: Arguments) -> bool:
        """Queue the other arms for this request; whether any was taken."""
        taken = False
        for name in self._others if request.counts else ():
            if self.switch.is_off(name):
                continue
            accepted = self._worker.submit(lambda name=name: self._run_shadow(request, name, arguments))  # type: ignore[misc]
            self._telemetry.shadow(self.experiment, name, accepted)
            taken = taken or accepted
        return taken

    def _run_shadow(self, request: Request, name: str, arguments: Arguments) -> None:
        if self.switch.is_off(name):
            return
        fresh = arguments.fresh()
        # The caller was answered long ago; nobody watches these steps.
        kwargs = {key: value for key, value in fresh.kwargs.items() if key != "on_step"}
        output: Any = None
        failure = None
        started = time.perf_counter()
        try:
            with (
                torch.inference_mode(request.inference),
                torch.set_grad_enabled(request.grad),
                self._telemetry.span("shadow", self.experiment, arm=name),
            ):
                output = self._attempts.call(name, fresh.args, kwargs, here=True)
        except BaseException as error:
            failure = Failure(name, failure_kind(error), failure_message(error))
            self._telemetry.failure(self.experiment, name, failure.kind)
        seconds = time.perf_counter() - started
        self._count(name, failure is not None)
        if self._recorder is not None:
            loss, receipt = ((), None) if failure is not None else self._describe(output)
            self._recorder.put(request.shadow_record(name, seconds, failure, loss, receipt))
            if failure is None:
                self._measure(request, name, fresh.args, output, True)

    def outcome(self, unit: str, metric: str, value: float) -> bool:
        """Record what became of `unit` later (a rating, a conversion, …), under the arm it was given.

        Units outside the experiment and numbers that are not finite are passed over; False then, or if it was dropped.

        Raises:
            ValueError: no number, or more text than the record holds.
        """
        given = self.assign(unit)
        if self._recorder is None or not given.exposed or self.mode == "shadow":
            return False
        record = Outcome(self.experiment, unit, given.arm, metric, float(value))
        return bool(record.rows()) and self._recorder.put(record)

    # Around

    def _after_fork(self) -> None:
        self._pid = os.getpid()
        self._worker = Worker("nc-refiner-shadow", self._queue)
        self._attempts.forget_threads()
        self.switch.start()

    def wait(self, timeout: float = 30.0) -> bool:
        """Wait until what is queued is done and in the database; False when `timeout` seconds did not suffice."""
        ends = time.monotonic() + timeout
        done = self._worker.wait(timeout)
        if self._recorder is not None:
            done = self._recorder.flush(max(0.0, ends - time.monotonic())) and done
        return done

    def close(self, timeout: float = 30.0) -> bool:
        """Finish what is queued, write everything out, stop the threads; what it returns is as for `Recorder.close`."""
        ends = time.monotonic() + timeout
        self.switch.close()
        done = self._worker.close(timeout)
        if self._recorder is not None:
            done = self._recorder.close(max(0.0, ends - time.monotonic())) and done
        return done
