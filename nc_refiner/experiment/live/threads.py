"""Threads off the request path: a worker with a bounded queue, and calls that a request can stop waiting for."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["DeadlinePool", "LeftBehind", "Worker"]

log = logging.getLogger(__name__)


class Worker:
    """One daemon thread that runs jobs in order; a job that does not fit into the queue is refused, never waited for.

    Args:
        name: of the thread.
        capacity: jobs that may wait, ≥ 1.
    """

    def __init__(self, name: str, capacity: int):
        if capacity < 1:
            raise ValueError(f"the queue's capacity is {capacity}; it must be at least 1")
        self._name = name
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], None]) -> bool:
        """Whether the job was taken."""
        # Also started anew in a forked process, where the parent's thread is not.
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                if job is None:
                    return
                job()
            except BaseException:  # one job's failure is told and must not end the worker
                log.exception("%s: a job failed", self._name)
            finally:
                self._jobs.task_done()

    def wait(self, timeout: float) -> bool:
        """Wait until all jobs taken so far are done; False when `timeout` seconds did not suffice."""
        ends = time.monotonic() + timeout
        while self._jobs.unfinished_tasks:
            if time.monotonic() > ends:
                return False
            time.sleep(0.005)
        return True

    def close(self, timeout: float) -> bool:
        """Finish what is queued and end the thread; False when `timeout` seconds did not suffice."""
        done = self.wait(timeout)
        if done and self._thread is not None:
            self._jobs.put(None)
            self._thread.join(timeout=5)
            self._thread = None
        return done


class LeftBehind(Exception):
    """A call was not done in time; it goes on without its caller."""


class _Call:
    def __init__(self, function: Callable[[], Any]):
        self.function = function
        self.context = contextvars.copy_context()
        self.grad = torch.is_grad_enabled()
        self.inference = torch.is_inference_mode_enabled()
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with torch.inference_mode(self.inference), torch.set_grad_enabled(self.grad):
                self.result = self.context.run(self.function)
        except BaseException as error:
            self.error = error
        self.done.set()


class DeadlinePool:
    """Runs calls in daemon threads of its own, which are kept and used again, and waits for each no longer than told.

    A call sees its caller's context variables and torch's grad and inference modes; other settings that torch keeps per
    thread (autocast, the current CUDA stream) it does not.
    """

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[_Call]] = []
        self._lock = threading.Lock()

    def call(self, function: Callable[[], Any], seconds: float, left: Callable[[Callable[[], bool]], None]) -> Any:
        """The result of `function()`, or its exception.

        Args:
            function: the call.
            seconds: how long to wait.
            left: called when the call is left behind, with a function that tells whether it has ended since.

        Raises:
            LeftBehind: not done in time; the call goes on.
        """
        call = _Call(function)
        with self._lock:
            jobs = self._idle.pop() if self._idle else None
        if jobs is None:
            jobs = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(jobs,), name="nc-refiner-arm", daemon=True).start()
        jobs.put(call)
        try:
            finished = call.done.wait(seconds)
        except BaseException:
            left(call.done.is_set)
            raise
        if not finished:
            left(call.done.is_set)
            raise LeftBehind
        if call.error is not None:
            raise call.error
        return call.result

    def _serve(self, jobs: queue.SimpleQueue[_Call]) -> None:
        while True:
            jobs.get().run()
            with self._lock:
                self._idle.append(jobs)
