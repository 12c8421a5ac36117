"""A real server on real Ray: replicas that die, an arm that fails, overload, and its end."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nc_refiner.clip import VideoClip
from nc_refiner.video import write_clip

from .flaky import plugin
from .processes import ServerProcess, ask, finished, hand_in

pytest.importorskip("ray", reason="Ray is not installed; pip install 'nc_refiner[serve]'")
pytestmark = pytest.mark.slow

REQUESTS, CLIENTS, USERS, QUEUE = 300, 8, 40, 12
CONFIG = f"""
version: 1
refiner:
  type: ab
  experiment: chaos
  arms:
    sdedit: {{type: sdedit, strength: 0.5, num_inference_steps: 2}}
    nc: {{type: nc, iterations: 1, strength: 0.5, num_inference_steps: 2, backbone: {{adapter: flaky}}}}
  guardrails: {{max_failure_rate: 1.0}}
serve:
  port: 0
  replicas: 2
  cpus: 0.5
  queue: {QUEUE}
  drain_seconds: 60
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_clip(VideoClip(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))), path)
    return path.read_bytes()


def rows(folder: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(folder / "serve" / "records.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_three_hundred_requests_survive_a_killed_replica_a_failing_arm_overload_and_the_end(tmp_path, clip):
    config = tmp_path / "serve.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    server = ServerProcess(config, plugin(tmp_path / "plugin"), tmp_path / "log")
    try:
        asked = _three_hundred(server, clip)
        asked += _overload(server, clip)
        asked += _end(server, clip, tmp_path)
    finally:
        server.stop()
    recorded = [name for (name,) in rows(tmp_path, "SELECT id FROM requests")]
    assert sorted(recorded) == sorted(asked)
    arms = dict(rows(tmp_path, "SELECT unit, group_concat(DISTINCT assigned) FROM requests GROUP BY unit"))
    assert set(arms.values()) == {"sdedit", "nc"}, "a user was given two arms"
    served = dict(rows(tmp_path, "SELECT assigned || ' by ' || served, count(*) FROM requests GROUP BY 1"))
    assert set(served) == {"sdedit by sdedit", "nc by nc", "nc by sdedit"}
    failed, fine = served["nc by sdedit"], served["nc by nc"]
    assert 0.3 < failed / (failed + fine) < 0.7
    assert rows(tmp_path, "SELECT count(*) FROM errors WHERE message LIKE '%every second clip%'") == [(failed,)]


def _three_hundred(server: ServerProcess, clip: bytes) -> list[str]:
    done: list[str] = []
    killed = threading.Event()

    def client(number: int) -> None:
        for i in range(number, REQUESTS, CLIENTS):
            answer = hand_in(server.url, clip, f"user-{i % USERS}", {"seed": i})
            assert answer.status == 202, answer.body
            job = answer.data["id"]
            found = finished(server.url, job)
            assert found["state"] == "done", found
            done.append(job)
            if len(done) >= REQUESTS // 3 and not killed.is_set():
                killed.set()
                before = server.replicas("sdedit")
                assert len(before) == 2, before
                os.kill(before[0], signal.SIGKILL)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(client, number) for number in range(CLIENTS)]:
            future.result()
    assert killed.is_set()
    assert len(set(done)) == REQUESTS
    one = ask(f"{server.url}/v1/jobs/{done[-1]}/result")
    assert one.status == 200 and one.headers["Content-Type"] == "video/mp4" and b"ftyp" in one.body[:16]
    # Whose job ends last is chance; among those of all users are both arms'.
    spent = [ask(f"{server.url}/v1/jobs/{job}/receipt").data["evaluations"] for job in done[-USERS:]]
    nc, sdedit = {"calibration": 1, "denoising": 0}, {"calibration": 0, "denoising": 1}
    assert all(one in (nc, sdedit) for one in spent) and nc in spent and sdedit in spent
    return done


def _overload(server: ServerProcess, clip: bytes) -> list[str]:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: hand_in(server.url, clip, f"user-{i % USERS}"), range(60)))
    taken = [answer.data["id"] for answer in answers if answer.status == 202]
    refused = [answer for answer in answers if answer.status != 202]
    assert refused and {answer.status for answer in refused} == {429}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 600 for answer in refused)
    assert all(finished(server.url, job)["state"] == "done" for job in taken)
    again = hand_in(server.url, clip, "user-1")
    assert again.status == 202 and finished(server.url, again.data["id"])["state"] == "done"
    return [*taken, again.data["id"]]


def _end(server: ServerProcess, clip: bytes, folder: Path) -> list[str]:
    taken = [hand_in(server.url, clip, f"user-{i}").data["id"] for i in range(QUEUE - 2)]
    server.terminate()
    late = hand_in(server.url, clip, "user-1")
    assert late.status == 503 and late.headers["Retry-After"]
    assert ask(f"{server.url}/readyz").status == 503
    assert ask(f"{server.url}/v1/jobs/{taken[0]}").status == 200
    assert server.wait(90) == 0
    for job in taken:
        assert json.loads((folder / "serve" / job / "job.json").read_text(encoding="utf-8"))["state"] == "done"
        assert (folder / "serve" / job / "result.mp4").stat().st_size > 500
    return taken
