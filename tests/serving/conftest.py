"""A server in this process: the real front, desk, router and refiners, without Ray between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nc_refiner.clip import VideoClip
from nc_refiner.serving.config import load_config
from nc_refiner.serving.desk import Desk
from nc_refiner.serving.jobs import JobFolder
from nc_refiner.serving.service import Service
from nc_refiner.serving.tokens import host_names, token_of
from nc_refiner.serving.worker import Worker
from nc_refiner.video import write_clip

SETTINGS = {"strength": 0.5, "num_inference_steps": 2}
ARMS = {
    "version": 1,
    "refiner": {
        "type": "ab",
        "experiment": "sharper",
        "arms": {"sdedit": {"type": "sdedit", **SETTINGS}, "nc": {"type": "nc", "iterations": 1, **SETTINGS}},
    },
}
ONE = {"version": 1, "refiner": {"type": "nc", "iterations": 1, **SETTINGS}}


def with_options(**options: Any) -> dict[str, Any]:
    """`ARMS` with other options of the experiment."""
    return {**ARMS, "refiner": {**ARMS["refiner"], **options}}


class LocalArm:
    """A refiner in this process, called as one behind Ray is; `gate` holds its calls up until it is set."""

    def __init__(self, worker: Worker):
        self.worker, self.gate, self.calls = worker, threading.Event(), 0
        self.gate.set()

    def __call__(self, work, *, on_start=None, on_step=None):
        self.calls += 1
        while not self.gate.wait(0.02):
            if on_step is not None:
                on_step("waiting")
        return self.worker.refine(work, on_start or (lambda total: None), on_step or (lambda stage: None))


class Here:
    """The server, and what a test wants to reach into."""

    def __init__(self, folder: Path, data: dict[str, Any], environment: dict[str, str] | None = None):
        from starlette.testclient import TestClient

        from nc_refiner.serving.front import create_app
        from nc_refiner.serving.metrics import Metrics

        file = folder / "serve.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        self.config = load_config(file)
        server, specs = self.config.serve, self.config.specs()
        self.jobs = JobFolder(folder / server.folder)
        self.arms = {name: LocalArm(Worker(spec)) for name, spec in specs.items()}
        metrics = Metrics()
        self.service = Service(self.config, folder, self.arms, self.jobs, metrics.experiment)
        self.desk = Desk(
            self.jobs, dict.fromkeys(specs, 1), self.service.answer, server.queue, server.attempts,
            server.keep_hours * 3600, metrics,
        )  # fmt: skip
        token = token_of(server, environment or {})
        self.replicas = dict.fromkeys(specs, 1)
        app = create_app(
            server, self.jobs, self.desk, self.service.arm, lambda: self.replicas, metrics, token,
            host_names(server, token),
        )  # fmt: skip
        self.client = TestClient(app, base_url="http://127.0.0.1:8000")

    def hand_in(self, clip: bytes, settings: Any = "{}", unit: str | None = None, name: str = "a.mp4"):
        headers = {} if unit is None else {"X-User-Id": unit}
        return self.client.post("/v1/jobs", files={"clip": (name, clip)}, data={"settings": settings}, headers=headers)

    def wait(self, job: str, seconds: float = 60) -> dict[str, Any]:
        ends = time.monotonic() + seconds
        while (found := self.client.get(f"/v1/jobs/{job}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < ends, found
            time.sleep(0.01)
        return found

    def close(self) -> None:
        for arm in self.arms.values():
            arm.gate.set()
        self.desk.drain(30)
        self.service.close(30)


@pytest.fixture
def here(tmp_path) -> Any:
    """Makes servers; each is ended with the test."""
    made: list[Here] = []

    def make(data: dict[str, Any], environment: dict[str, str] | None = None, **serve: Any) -> Here:
        made.append(Here(tmp_path, {**data, "serve": serve}, environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def mp4(tmp_path_factory) -> Callable[..., bytes]:
    """Bytes of a clip with so many frames of such a size."""

    def make(frames: int = 2, height: int = 32, width: int = 32) -> bytes:
        path = tmp_path_factory.mktemp("clip") / "a.mp4"
        write_clip(VideoClip(torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0))), path)
        return path.read_bytes()

    return make
