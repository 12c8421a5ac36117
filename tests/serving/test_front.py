"""Jobs over HTTP: what is taken, what is refused, what becomes of it, what survives a restart."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest

from nc_refiner import CalibratedRefiner
from nc_refiner.serving import desk as desk_module
from nc_refiner.video import read_clip, write_clip

from .conftest import ARMS, ONE, SETTINGS, with_options

TOKEN = "a-secret-of-this-test"


def rows(tmp_path, query):
    connection = sqlite3.connect(tmp_path / "serve" / "records.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_a_job_gives_the_bytes_that_the_refiner_gives(here, mp4, tmp_path):
    server = here(ONE)
    clip = mp4()
    answer = server.hand_in(clip, '{"seed": 7}')
    assert answer.status_code == 202 and answer.headers["location"] == answer.json()["links"]["self"]
    job = server.wait(answer.json()["id"])
    assert (job["state"], job["progress"], job["settings"]) == ("done", 1.0, {"seed": 7})
    result = server.client.get(job["links"]["result"])
    assert result.headers["content-type"] == "video/mp4"
    (tmp_path / "in.mp4").write_bytes(clip)
    refiner = CalibratedRefiner.from_name("embedded", iterations=1)
    expected = refiner(read_clip(tmp_path / "in.mp4"), seed=7, **SETTINGS)
    receipt = server.client.get(job["links"]["receipt"]).json()
    assert receipt["content_loss"] == expected.receipt["content_loss"]
    write_clip(expected.clip, tmp_path / "out.mp4")
    assert result.content == (tmp_path / "out.mp4").read_bytes()
    # The clip itself is not needed any more.
    assert sorted(path.name for path in server.jobs.result(server.desk.get(job["id"])).parent.iterdir()) == [
        "job.json",
        "receipt.json",
        "result.mp4",
    ]


def test_a_picture_stays_a_picture(here, tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "a.png")
    server = here(ONE)
    job = server.wait(server.hand_in((tmp_path / "a.png").read_bytes(), name="a.png").json()["id"])
    assert server.client.get(job["links"]["result"]).headers["content-type"] == "image/png"


def test_users_keep_their_arm_and_every_request_is_recorded_once(here, mp4, tmp_path):
    server = here(ARMS)
    jobs = [server.hand_in(mp4(), unit=f"user-{i % 4}").json()["id"] for i in range(12)]
    assert {server.wait(job)["state"] for job in jobs} == {"done"}
    server.close()
    found = rows(tmp_path, "SELECT id, unit, assigned, served FROM requests")
    assert sorted(name for name, *_ in found) == sorted(jobs)
    assert len({(unit, assigned) for _, unit, assigned, _ in found}) == 4
    assert all(assigned == served == server.service.arm(unit) for _, unit, assigned, served in found)


def test_the_control_answers_where_an_arm_fails(here, mp4, tmp_path):
    server = here(ARMS)
    unit = next(f"u{i}" for i in range(100) if server.service.arm(f"u{i}") == "nc")
    server.arms["nc"].worker = None
    assert server.wait(server.hand_in(mp4(), unit=unit).json()["id"])["state"] == "done"
    server.close()
    assert rows(tmp_path, "SELECT assigned, served FROM requests") == [("nc", "sdedit")]
    assert rows(tmp_path, "SELECT arm, kind FROM errors") == [("nc", "raised")]


def test_shadow_runs_are_recorded_beside_the_answer(here, mp4, tmp_path):
    server = here(with_options(mode="shadow"))
    job = server.hand_in(mp4(), unit="u").json()["id"]
    assert server.wait(job)["state"] == "done"
    server.close()
    assert rows(tmp_path, "SELECT role, served FROM requests ORDER BY role") == [("live", "sdedit"), ("shadow", "nc")]


@pytest.mark.parametrize(
    ("settings", "status", "told"),
    [
        ('{"strength": 0.9}', 422, "strength is 0.9; it must lie within 0.1 and 0.6"),
        ('{"strength": "much"}', 422, "strength is a number"),
        ('{"seed": 1.5}', 422, "seed is a whole number"),
        ('{"seed": -1}', 422, "seed is -1"),
        ('{"seed": true}', 422, "whole number"),
        ('{"steed": 1}', 422, "did you mean 'seed'"),
        ('{"iterations": 1}', 422, "cannot be set here"),
        ("[1]", 422, "give names with values"),
        ("{", 422, "not JSON"),
        ('{"strength": NaN}', 422, "is a number"),
    ],
)
def test_settings_that_are_not_allowed(here, mp4, settings, status, told):
    server = here(ONE, allow={"seed": True, "strength": [0.1, 0.6]})
    answer = server.hand_in(mp4(), settings)
    assert answer.status_code == status and told in answer.json()["error"], answer.text


def test_a_setting_of_the_request_goes_before_the_refiners_own(here, mp4):
    one = {"version": 1, "refiner": {"type": "nc", "iterations": 1, "start_timestep": 600, "num_inference_steps": 4}}
    server = here(one, allow={"strength": True})
    job = server.wait(server.hand_in(mp4(), '{"strength": 0.25}').json()["id"])
    assert job["state"] == "done", job
    # One step, which the calibration's prediction serves.
    spent = server.client.get(job["links"]["receipt"]).json()["evaluations"]
    assert spent == {"calibration": 1, "denoising": 0}


def test_clips_that_are_too_much_or_none(here, mp4):
    server = here(ONE, max_megabytes=0.2, max_frames=3, max_height=64, max_width=64)
    for clip, status, told in (
        (bytes(300_000), 413, "larger than 0.2 MB"),
        (mp4(frames=4), 413, "has 4 frames; this server takes up to 3"),
        (mp4(height=80), 413, "is 32x80; this server takes up to 64x64"),
        (b"no video at all", 422, "the clip"),
        (b"", 422, "the file is empty"),
        (mp4()[:-200], 422, "the clip"),
    ):
        answer = server.hand_in(clip)
        assert answer.status_code == status and told in answer.json()["error"], answer.text
        assert str(server.jobs.root) not in answer.text
    for request in (
        {"data": {"settings": "{}"}},
        {"files": {"clip": ("a.mp4", mp4())}, "data": {"more": "1"}},
        {"content": b"abc", "headers": {"content-type": "video/mp4"}},
        {"json": {"url": "http://127.0.0.1/a.mp4"}},
        {"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
    ):
        assert server.client.post("/v1/jobs", **request).status_code in (400, 415, 422)
    assert [path.name for path in server.jobs.root.iterdir()] == [], "a refusal left something behind"


def test_a_body_without_a_length_is_stopped_while_it_comes(here):
    server = here(ONE, max_megabytes=0.2)
    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="clip"; filename="a.mp4"\r\n\r\n'
        while sent < 50_000_000:
            sent += 65_536
            yield bytes(65_536)

    from starlette.requests import Request

    taken = []
    real = Request.receive.fget  # how much the application asked for

    async def counted(self):
        message = await real(self)()
        taken.append(len(message.get("body", b"")))
        return message

    kind = {"content-type": "multipart/form-data; boundary=x"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Request, "receive", property(lambda self: lambda: counted(self)))
        answer = server.client.post("/v1/jobs", content=endless(), headers=kind)
    assert answer.status_code == 413
    assert [path.name for path in server.jobs.root.iterdir()] == []


def test_a_full_queue_answers_429_and_recovers(here, mp4):
    server = here(ONE, queue=2)
    server.arms["refiner"].gate.clear()
    first = server.hand_in(mp4()).json()["id"]
    while server.client.get(f"/v1/jobs/{first}").json()["state"] == "queued":
        time.sleep(0.01)
    waiting = [server.hand_in(mp4()) for _ in range(2)]
    assert [answer.status_code for answer in waiting] == [202, 202]
    full = server.hand_in(mp4())
    assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
    assert 'nc_refiner_serve_refused_total{status="429"} 1.0' in server.client.get("/metrics").text
    assert "nc_refiner_serve_jobs_waiting 2.0" in server.client.get("/metrics").text
    server.arms["refiner"].gate.set()
    assert {server.wait(answer.json()["id"])["state"] for answer in waiting} == {"done"}
    assert server.hand_in(mp4()).status_code == 202


def test_jobs_are_cancelled_where_they_wait_and_where_they_run(here, mp4):
    server = here(ONE)
    server.arms["refiner"].gate.clear()
    running, waiting = (server.hand_in(mp4()).json()["id"] for _ in range(2))
    while server.client.get(f"/v1/jobs/{running}").json()["state"] == "queued":
        time.sleep(0.01)
    assert server.client.delete(f"/v1/jobs/{waiting}").json()["state"] == "cancelled"
    server.client.delete(f"/v1/jobs/{running}")
    assert server.wait(running)["state"] == "cancelled"
    answer = server.client.get(f"/v1/jobs/{running}/result")
    assert answer.status_code == 409 and "was cancelled" in answer.json()["error"]
    server.arms["refiner"].gate.set()
    done = server.wait(server.hand_in(mp4()).json()["id"])
    assert server.client.delete(f"/v1/jobs/{done['id']}").json()["state"] == "done"


def test_a_result_that_is_not_there_yet_or_never(here, mp4):
    server = here(ONE)
    server.arms["refiner"].gate.clear()
    job = server.hand_in(mp4()).json()["id"]
    early = server.client.get(f"/v1/jobs/{job}/result")
    assert early.status_code == 409 and early.headers["retry-after"]
    server.arms["refiner"].worker = None
    server.arms["refiner"].gate.set()
    assert server.wait(job)["state"] == "failed"
    assert server.client.get(f"/v1/jobs/{job}/receipt").status_code == 409
    for name in ("0" * 32, "..", "%2e%2e", "job.json"):
        assert server.client.get(f"/v1/jobs/{name}").status_code == 404


def test_results_and_waiting_jobs_survive_the_end_of_a_server(here, mp4, tmp_path):
    server = here(ARMS)
    done = server.wait(server.hand_in(mp4()).json()["id"])
    for arm in server.arms.values():
        arm.gate.clear()
    left = [server.hand_in(mp4(), unit=f"u{i}").json()["id"] for i in range(5)]
    assert not server.desk.drain(0.2), "nothing was to be finished"
    assert server.hand_in(mp4()).status_code == 503
    assert server.client.get("/readyz").status_code == 503
    assert server.client.get(f"/v1/jobs/{done['id']}/result").status_code == 200
    (server.jobs.root / ".incoming-0").mkdir()
    again = here(ARMS)
    assert again.client.get(f"/v1/jobs/{done['id']}/result").status_code == 200
    assert {again.wait(job)["state"] for job in left} == {"done"}
    assert not (again.jobs.root / ".incoming-0").exists()
    server.close()
    again.close()
    # The first server's running jobs were let go on afterwards: still each is recorded once.
    assert sorted(name for (name,) in rows(tmp_path, "SELECT id FROM requests")) == sorted([done["id"], *left])


def test_a_job_that_killed_its_server_again_and_again_is_given_up(here, mp4):
    server = here(ONE, attempts=2)
    server.arms["refiner"].gate.clear()
    job = server.hand_in(mp4()).json()["id"]
    server.desk.drain(0.2)
    record = server.jobs.root / job / "job.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "state": "running", "attempts": 2}))
    found = here(ONE, attempts=2).client.get(f"/v1/jobs/{job}").json()
    assert found["state"] == "failed" and "killed 2 times" in found["error"]


def test_old_results_are_removed(here, mp4, monkeypatch):
    monkeypatch.setattr(desk_module, "SWEEP_SECONDS", 0.05)
    server = here(ONE, keep_hours=0.5 / 3600)
    job = server.wait(server.hand_in(mp4()).json()["id"])["id"]
    ends = time.monotonic() + 30
    while (server.jobs.root / job).exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert server.client.get(f"/v1/jobs/{job}").status_code == 404


def test_a_token_is_asked_for_where_there_is_one(here, mp4):
    server = here(ONE, {"NC_REFINER_TOKEN": TOKEN}, host="0.0.0.0")
    assert server.hand_in(mp4()).status_code == 401
    assert server.client.get("/metrics").status_code == 401
    for shown in ("Bearer wrong", "Basic " + TOKEN, "Bearer", "Bearer \xe4"):
        headers = {"authorization": shown.encode("latin-1")}
        assert server.client.get("/metrics", headers=headers).status_code == 401
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert server.client.get(path).status_code == 200
    server.client.headers["authorization"] = f"Bearer {TOKEN}"
    assert server.wait(server.hand_in(mp4()).json()["id"])["state"] == "done"
    assert "Bearer TOKEN" in server.client.get("/docs").text


def test_other_names_and_other_sites_are_refused(here, mp4):
    server = here(ONE, hosts=["refiner.internal"])
    assert server.client.get("/healthz", headers={"host": "evil.example"}).status_code == 421
    assert server.client.get("/healthz", headers={"host": "refiner.internal:8000"}).status_code == 200
    assert server.client.get("/healthz", headers={"host": "[::1]:8000"}).status_code == 200
    server.client.headers["origin"] = "https://evil.example"
    assert server.hand_in(mp4()).status_code == 403


@pytest.mark.parametrize("unit", ["", "x" * 201, "a\tb"])
def test_a_user_id_that_is_none(here, mp4, unit):
    assert here(ONE).hand_in(mp4(), unit=unit).status_code == 422


def test_readiness_tells_of_an_arm_without_workers(here):
    server = here(ARMS)
    assert server.client.get("/readyz").json() == {"status": "ready", "replicas": {"sdedit": 1, "nc": 1}}
    server.replicas["nc"] = 0
    answer = server.client.get("/readyz")
    assert answer.status_code == 503 and answer.json()["status"] == "no worker: nc"


def test_the_api_is_described_for_machines_and_people(here):
    server = here(ONE, url_prefixes=["https://clips.example/a/"])
    schema = server.client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/result", "/v1/jobs/{job_id}/receipt",
        "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    assert set(schema["paths"]["/v1/jobs"]["post"]["responses"]) >= {"202", "413", "422", "429", "503"}
    page = server.client.get("/docs").text
    assert "https://clips.example/a/" in page and "src=" not in page and "/v1/jobs/{job_id}/result" in page
