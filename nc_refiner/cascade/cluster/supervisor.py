"""Keeps the process that holds the models: starts it, waits for its answers, ends it when it takes too long, and tells
how it died when it did."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

__all__ = ["Died", "Supervisor"]

GRACE = 0.3
"""Seconds for the stack of a process that hangs to be written to its log."""


class Died(Exception):
    """The process is gone; `how`: `timeout`, or `killed` by whatever it ran."""

    def __init__(self, how: Literal["timeout", "killed"], text: str):
        super().__init__(text)
        self.how: Literal["timeout", "killed"] = how


class Supervisor:
    """One process with models, started by `start`, or when it is asked for something.

    Args:
        packed: the job.
        root: the folder the run writes into, on this machine.
    """

    def __init__(self, packed: bytes, root: Path):
        self._first = (packed, root)
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection[Any, Any] | None = None

    def start(self) -> None:
        """Start the process ahead of the first question, and wait until it can answer; Died where it cannot."""
        self.ask("ready")

    def ask(self, name: str, *given: Any, timeout: float | None = None) -> tuple[str, Any]:
        """Ask `Models` for something.

        Args:
            name, given: the method and its arguments.
            timeout: seconds it may take.

        Raises:
            Died: it took longer, or the process died; the next call starts another.
        """
        killed_before = _oom_kills()
        if self._process is None:
            self._spawn()
        assert self._line is not None
        try:
            self._line.send((name, given))
            if not self._line.poll(timeout):
                self._tell_where()
                self.stop()
                raise Died("timeout", f"ran longer than {timeout:g} s")
            answer: tuple[str, Any] = self._line.recv()
        except (EOFError, OSError):
            raise Died("killed", self._how_it_died(killed_before)) from None
        return answer

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, "-m", f"{__package__}.child", str(theirs.fileno()), str(os.getpid())]
            # What this process can import, the other can.
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
            )
            self._line = Connection(ours.detach())
        # A process that dies at once is told apart by the first question.
        with contextlib.suppress(OSError):
            self._line.send(self._first)

    def _tell_where(self) -> None:
        """Have the stack of a process that hangs written to the worker's log."""
        if self._process is not None and hasattr(signal, "SIGUSR1"):
            self._process.send_signal(signal.SIGUSR1)
            time.sleep(GRACE)

    def _how_it_died(self, killed_before: int) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        code = self._process.returncode
        self.stop()
        if code is not None and code >= 0:
            return f"its process ended with code {code}"
        if code == -signal.SIGKILL and _oom_kills() > killed_before:
            return "its process was killed by the system: out of memory"
        name = "a signal" if code is None else _signal_name(-code)
        more = ", often for want of memory" if code == -signal.SIGKILL else ""
        return f"its process was killed ({name}{more})"

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        process, line, self._process, self._line = self._process, self._line, None, None
        if line is not None:
            line.close()
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _oom_kills() -> int:
    """How many processes this machine's kernel has killed for want of memory; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as stream:
            return next((int(line.split()[1]) for line in stream if line.startswith("oom_kill ")), 0)
    except (OSError, ValueError, IndexError):
        return 0
