"""`nc-refiner cascade --workers N` and `--ray ADDRESS`: options in, a run on Ray, its events shown or printed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..cascade.outcome import Summary

__all__ = ["Board", "json_lines", "metrics", "print_report"]

EVERY = 10.0
"""Seconds between two reports."""


class Board:
    """One line for each stage on standard error: done, failed, clips a minute, time left."""

    def __init__(self, every: float = EVERY, now: Callable[[], float] = time.monotonic):
        self._every, self._now = every, now
        self._stages: dict[str, dict[str, int]] = {}
        self._clips, self._out, self._failed = 0, 0, 0
        self._began = self._last = now()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of `ClusterRunner`."""
        kind = event["event"]
        if kind == "start":
            self._clips = event["clips"]
            self._stages = {stage: {"done": 0, "failed": 0, "made": 0} for stage in event["stages"]}
            pools = ", ".join(f"{pool['actors']} × {'+'.join(pool['stages'])}" for pool in event["pools"])
            self._write(f"{self._clips} clips; workers: {pools}")
            self._began = self._last = self._now()
        elif kind == "stage":
            self._count(self._stages[event["stage"]], event["state"])
        elif kind == "clip":
            self._out += 1
            self._failed += event["status"] == "failed"
        if kind == "end" or self._now() - self._last >= self._every:
            self._last = self._now()
            for line in self.lines():
                self._write(line)

    def _count(self, stage: dict[str, int], state: str) -> None:
        stage["failed" if state == "failed" else "done"] += 1
        stage["made"] += state != "skipped"

    def lines(self) -> list[str]:
        """The lines as they are now."""
        minutes = max(self._now() - self._began, 1e-9) / 60
        found = []
        for name, stage in self._stages.items():
            pace = stage["made"] / minutes
            # A clip that failed before this stage will not come to it.
            left = max(0, self._clips - self._failed - stage["done"])
            when = f", about {_span(left / pace * 60)} left" if pace and left else ""
            found.append(
                f"{name}: {stage['done']} of {self._clips} done, {stage['failed']} failed, {pace:.1f} a minute{when}"
            )
        return found

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(f"nc-refiner: {text}\n")
        sys.stderr.flush()


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def json_lines(event: dict[str, Any]) -> None:
    """An event as a line of JSON on standard output."""
    sys.__stdout__.write(json.dumps(event, ensure_ascii=False, default=str) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def metrics(port: int) -> Callable[[dict[str, Any]], None]:
    """Serve Prometheus metrics on `port` of this machine alone; returns what takes the events.

    Raises:
        ImportError: the extra is missing. OSError: the port is taken.
    """
    from ..cascade.cluster.telemetry import BatchTelemetry

    found = BatchTelemetry()
    from prometheus_client import start_http_server

    start_http_server(port, addr="127.0.0.1")
    return found


def print_report(summary: Summary) -> None:
    """What became of the clips, failures by cause."""
    from ..cascade.cluster.summary import causes

    for group in causes(summary.items):
        more = ", …" if group["clips"] > len(group["names"]) else ""
        typer.echo(f"{group['clips']} failed ({group['cause']}): {group['error']}")
        typer.echo(f"  {', '.join(group['names'])}{more}")
    count, failed = len(summary.items), len(summary.failed)
    ended = f", stopped after {summary.stopped_after}" if summary.stopped_after else ""
    again = "; --resume --retry-failed tries them again" if failed else ""
    typer.echo(f"{count - failed} of {count} done{ended}; everything is in {summary.output}{again}")
