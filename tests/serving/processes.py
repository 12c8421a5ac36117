"""A server as its users start it, its replicas, and clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BOUNDARY = "nc-refiner-test-boundary"


@dataclass
class Answer:
    """Of an HTTP request: status, headers, body."""

    status: int
    headers: Any
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


class ServerProcess:
    """`nc-refiner serve` in a process of its own."""

    def __init__(self, config: Path, extra_path: Path, log: Path):
        paths = (str(ROOT), str(extra_path), os.environ.get("PYTHONPATH", ""))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        self._log = log.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nc_refiner", "serve", str(config)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            cwd=config.parent,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if " on http://" not in line:
            self.stop()
            raise AssertionError(f"it did not start: {line}{log.read_text(encoding='utf-8')}")
        self.url = line.partition(" on ")[2].partition(",")[0]
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def stop(self) -> None:
        """End it and everything it started, whatever state it is in."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        self._log.close()

    def replicas(self, arm: str) -> list[int]:
        """Process ids of an arm's replicas, found among the descendants of the server."""
        children: dict[int, list[int]] = {}
        names: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                status = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                names[int(entry.name)] = (entry / "cmdline").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it has just ended
            parent = int(status.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            todo += children.get(pid, [])
            # ray::ServeReplica:APPLICATION:ARM, perhaps with a method behind it
            parts = names.get(pid, "").partition("\0")[0].split(":")
            if "ServeReplica" in parts and parts[-1].partition(".")[0] == arm:
                found.append(pid)
        return found


def ask(
    url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None, seconds: float = 60
) -> Answer:
    """One request; a refusal is an answer like any other."""
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def hand_in(url: str, clip: bytes, unit: str, settings: dict[str, Any] | None = None) -> Answer:
    """POST a clip."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [
        f'{head}"settings"\r\n\r\n{json.dumps(settings or {})}\r\n'.encode(),
        f'{head}"clip"; filename="a.mp4"\r\n\r\n'.encode(),
        clip,
        f"\r\n--{BOUNDARY}--\r\n".encode(),
    ]
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return ask(f"{url}/v1/jobs", "POST", b"".join(parts), {"Content-Type": kind, "X-User-Id": unit})


def finished(url: str, job: str, seconds: float = 120) -> dict[str, Any]:
    """Ask for a job until it is over."""
    ends = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = ask(f"{url}/v1/jobs/{job}").data
        if found["state"] not in ("queued", "running"):
            return found
        assert time.monotonic() < ends, found
        time.sleep(0.05)
