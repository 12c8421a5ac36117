"""The desk: takes jobs in while there is room, has them done in order, keeps what becomes of them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..files import FileError
from ..naming import one_line
from .jobs import FINISHED, Job, JobFolder
from .worker import Done

__all__ = ["Cancelled", "Closed", "Desk", "Full", "Place", "Watcher"]

log = logging.getLogger(__name__)

LONGEST_WAIT = 600
SWEEP_SECONDS = 60.0


class Full(Exception):
    """No room; `retry_after`: seconds after which there may be some."""

    def __init__(self, retry_after: int):
        super().__init__(f"too many jobs wait; come back in {retry_after} seconds")
        self.retry_after = retry_after


class Closed(Exception):
    """The server is about to end and takes no more jobs."""


class Cancelled(Exception):
    """The client has cancelled the job."""


@dataclass
class Place:
    """In the queue, for a job that is still being uploaded; `held`: 1 until it is taken."""

    held: int = 1


class Watcher:
    """Told what happens to jobs; this one does nothing."""

    def counts(self, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        """Where the numbers of waiting and running jobs are to be had."""

    def finished(self, job: Job) -> None:
        """A job is over."""


class Desk:
    """Queues and threads: one queue per arm, since each has workers of its own.

    Args:
        folder: where jobs are kept.
        workers: arm → jobs that are done at a time.
        answer: does a job: `answer(job, on_step)`; raises `Cancelled` or what went wrong.
        queue: jobs that may wait, uploads that are under way included.
        attempts: how often a job is begun whose server was killed.
        keep_seconds: how long a finished job is kept.
        watcher: is told.
    """

    def __init__(
        self,
        folder: JobFolder,
        workers: Mapping[str, int],
        answer: Callable[[Job], Done],
        queue: int,
        attempts: int,
        keep_seconds: float,
        watcher: Watcher | None = None,
    ):
        self._folder, self._answer, self._most = folder, answer, queue
        self._attempts, self._keep_seconds = attempts, keep_seconds
        self._watcher = watcher or Watcher()
        self._workers = dict(workers)
        self._jobs: dict[str, Job] = {}
        self._waiting: dict[str, deque[Job]] = {arm: deque() for arm in workers}
        self._took: deque[float] = deque(maxlen=20)
        self._reserved = self._running = 0
        self._changed = threading.Condition()
        self._closed = self._stopped = False
        self._ended = threading.Event()
        self._watcher.counts(lambda: self._length(), lambda: self._running)
        self._recover()
        for arm, count in workers.items():
            for number in range(count):
                self._start(f"nc-refiner-{arm}-{number}", lambda arm=arm: self._work(arm))  # type: ignore[misc]
        self._start("nc-refiner-sweep", self._sweep)

    @staticmethod
    def _start(name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()

    def _recover(self) -> None:
        """Take up what an earlier server left: results stay, what it had not finished is done now."""
        again = 0
        for job in self._folder.load():
            self._jobs[job.id] = job
            if job.state in FINISHED:
                continue
            if job.attempts >= self._attempts or not self._folder.clip(job).is_file():
                self._over(job, "failed", f"the server was killed {job.attempts} times while it was done")
                continue
            job.state, again = "queued", again + 1
            if job.arm not in self._waiting:
                # An arm that is gone from the file: its jobs go to the first one's workers.
                job.arm = next(iter(self._waiting))
            self._waiting[job.arm].append(job)
        if again:
            log.warning("%d jobs that an earlier server did not finish are done now", again)

    # Taking jobs in

    def _length(self) -> int:
        return self._reserved + sum(map(len, self._waiting.values()))

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Hold a place in the queue while a clip is uploaded; `submit` takes it.

        Raises:
            Closed, Full: at once.
        """
        with self._changed:
            if self._closed:
                raise Closed
            if self._length() >= self._most:
                raise Full(self.retry_after())
            self._reserved += 1
        place = Place()
        try:
            yield place
        finally:
            with self._changed:
                self._reserved -= place.held
                self._changed.notify_all()

    def submit(self, place: Place, job: Job, incoming: Path, clip: Path) -> None:
        """Take in a job on a place that is held; FileError where the disk takes none, `Closed` if it is too late."""
        with self._changed:
            if self._stopped:
                raise Closed
            self._folder.accept(job, incoming, clip)
            self._reserved, place.held = self._reserved - 1, 0
            self._jobs[job.id] = job
            self._waiting[job.arm].append(job)
            self._changed.notify_all()

    def retry_after(self) -> int:
        """Seconds, at least 1, after which a place is likely to be free, judging by the jobs before."""
        mean = sum(self._took) / len(self._took) if self._took else 1.0
        # Until a worker takes the next one, not until the queue is empty.
        return min(LONGEST_WAIT, max(1, math.ceil(mean / max(1, sum(self._workers.values())))))

    def get(self, name: str) -> Job | None:
        """The job called `name`."""
        return self._jobs.get(name)

    def cancel(self, job: Job) -> None:
        """End a job: at once where it waits, at its next step where it runs."""
        job.cancelled.set()
        with self._changed:
            queue = self._waiting.get(job.arm)
            if job.state != "queued" or queue is None or job not in queue:
                return
            queue.remove(job)
            self._changed.notify_all()
        self._over(job, "cancelled")

    # Doing them

    def _next(self, arm: str) -> Job | None:
        queue = self._waiting[arm]
        with self._changed:
            while not queue and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return None
            job = queue.popleft()
            job.state, job.started = "running", time.time()
            self._running += 1
            return job

    def _work(self, arm: str) -> None:
        while (job := self._next(arm)) is not None:
            started = time.monotonic()
            try:
                self._do(job)
            except Exception:  # a worker outlives any job
                log.exception("job %s", job.id)
                self._over(job, "failed", "the server could not keep its result; its log says why")
            finally:
                with self._changed:
                    self._running -= 1
                    self._took.append(time.monotonic() - started)
                    self._changed.notify_all()

    def _do(self, job: Job) -> None:
        job.attempts += 1
        try:
            self._folder.save(job)
            done = self._answer(job)
            self._folder.finish(job, done)
            self._watcher.finished(job)
        except Cancelled:
            self._over(job, "cancelled")
        except FileError as error:
            log.error("job %s: %s", job.id, error)
            self._over(job, "failed", "the server's disk did not take it; try again later")
        except Exception as error:
            log.warning("job %s failed: %s", job.id, error)
            self._over(job, "failed", one_line(error, 1000))

    def _over(self, job: Job, state: str, error: str | None = None) -> None:
        job.state, job.error, job.finished = state, error, time.time()  # type: ignore[assignment]
        try:
            self._folder.save(job)
        except FileError as problem:
            log.error("job %s: %s", job.id, problem)
        self._folder.drop_clip(job)
        self._watcher.finished(job)

    def _sweep(self) -> None:
        while not self._stopped:
            now = time.time()
            for job in list(self._jobs.values()):
                if job.finished is not None and now - job.finished > self._keep_seconds:
                    self._jobs.pop(job.id, None)
                    self._folder.remove(job)
            self._ended.wait(SWEEP_SECONDS)

    # Ending

    @property
    def open(self) -> bool:
        """Whether jobs are taken."""
        return not self._closed

    def close(self) -> None:
        """Take no more jobs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Take no more jobs and wait until those there are done; False when `seconds` did not suffice. What is left
        stays on disk and is done by the next server on this folder."""
        self.close()
        ends = time.monotonic() + seconds
        with self._changed:
            while not self._stopped and (self._length() or self._running) and time.monotonic() < ends:
                self._changed.wait(min(1.0, max(0.0, ends - time.monotonic())))
            done = not (self._length() or self._running)
            self._stopped = True
            self._changed.notify_all()
        self._ended.set()
        return done
