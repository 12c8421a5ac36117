"""Two thousand requests on sixteen threads while the database fails in many ways: nothing lost, nothing silent."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, select

from nc_refiner.experiment import ABPipeline
from nc_refiner.experiment.store import Store, open_store
from nc_refiner.experiment.store.outbox import Counts
from nc_refiner.experiment.store.recorder import Recorder
from nc_refiner.experiment.store.schema import requests

from ..servers import empty

REQUESTS, THREADS = 2000, 16


def units(url) -> set[str]:
    with open_store(url).engine.connect() as connection:
        return set(connection.execute(select(requests.c.unit)).scalars())


def pragma(store: Store, line: str):
    """Every connection of the store has it from now on; returns what takes it back."""

    def configure(connection, _):
        connection.execute(f"PRAGMA {line}")

    event.listen(store.engine, "connect", configure)
    store.engine.dispose()

    def undo():
        event.remove(store.engine, "connect", configure)
        store.engine.dispose()

    return undo


def locked(store: Store, path: Path):
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return lambda: (connection.execute("ROLLBACK"), connection.close())


def deleted(store: Store, path: Path):
    path.unlink()


def deleted_with_its_log(store: Store, path: Path):
    for one in path.parent.glob(f"{path.name}*"):
        if one.is_file():
            one.unlink()


def replaced(store: Store, path: Path):
    other = path.with_name("other.db")
    open_store(other).close()
    os.replace(other, path)


def checkpointed(path: Path) -> int:
    """Its size, once no write-ahead log could mend what is cut off."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            time.sleep(0.001)
        return path.stat().st_size


def truncated(store: Store, path: Path):
    checkpointed(path)
    os.truncate(path, 0)


def cut_in_half(store: Store, path: Path):
    os.truncate(path, checkpointed(path) // 8192 * 4096)


def read_only(store: Store, path: Path):
    return pragma(store, "query_only = ON")


def disk_full(store: Store, path: Path):
    return pragma(store, "max_page_count = 1")


def outbox_deleted(store: Store, path: Path):
    shutil.rmtree(path.with_name(f"{path.name}.pending"))


def outbox_truncated(store: Store, path: Path):
    outbox = path.with_name(f"{path.name}.pending") / "outbox.db"
    checkpointed(outbox)
    os.truncate(outbox, 0)


LOUD = {
    locked: "",  # it waits, and is not refused
    truncated: "",  # where there was time for another commit, the write-ahead log mends it
    cut_in_half: "",
    outbox_truncated: "",
    read_only: "the database does not take records",
    disk_full: "the database does not take records",
    outbox_deleted: "it was removed, replaced or cut short",
}


def through(recorder: Recorder, fail) -> ABPipeline:
    """All requests; a third of them before `fail()`, the last third after what that returned is called."""
    ab = ABPipeline({"control": abs, "nc": lambda x: -x}, "e", store=recorder)

    def request(i: int) -> int:
        time.sleep(0.002)
        return abs(ab(i, unit=f"u{i}"))

    with ThreadPoolExecutor(THREADS) as pool:
        answers = [pool.submit(request, i) for i in range(REQUESTS)]
        while sum(answer.done() for answer in answers) < REQUESTS // 3 or not recorder.counts().stored:
            time.sleep(0.001)
        undo = fail()
        while sum(answer.done() for answer in answers) < 2 * REQUESTS // 3:
            time.sleep(0.001)
        if undo is not None:
            time.sleep(0.5)
            undo()
        assert [answer.result() for answer in answers] == list(range(REQUESTS))
    return ab


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(
    "fail",
    [
        *(locked, deleted, deleted_with_its_log, replaced, truncated, cut_in_half, read_only, disk_full),
        *(outbox_deleted, outbox_truncated),
    ],
)
def test_sqlite(fail, durable, tmp_path, caplog):
    path = tmp_path / "ab.db"
    store = Store(path)
    recorder = Recorder(store, durable=durable, flush_seconds=0.02)
    ab = through(recorder, lambda: fail(store, path))
    assert ab.wait(60) and ab.close(60)
    assert recorder.counts() == Counts(REQUESTS, REQUESTS, 0, 0)
    assert units(path) == {f"u{i}" for i in range(REQUESTS)}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert recorder.dropped == 0
    assert LOUD.get(fail, "records of this process are written again") in caplog.text


@pytest.mark.parametrize("fail", ["killed", "emptied"])
def test_postgres(fail, postgres, tmp_path, caplog):
    recorder = Recorder(Store(postgres.url), tmp_path, flush_seconds=0.02)

    def kill():
        postgres.kill()
        return postgres.start

    ab = through(recorder, kill if fail == "killed" else lambda: empty(postgres.url))
    assert ab.wait(60) and ab.close(60)
    assert recorder.counts() == Counts(REQUESTS, REQUESTS, 0, 0)
    assert units(postgres.url) == {f"u{i}" for i in range(REQUESTS)}
    loud = "does not take records" if fail == "killed" else "records of this process are written again"
    assert loud in caplog.text


PROGRAM = """
import os, sys, threading
from nc_refiner.experiment import ABPipeline
ab = ABPipeline({"control": abs, "nc": abs}, "e", store=sys.argv[1], durable=True)
answered = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
def work(number):
    for i in range(number, 2000, 16):
        ab(i, unit=f"u{i}")
        os.write(answered, f"u{i}\\n".encode())
for number in range(16):
    threading.Thread(target=work, args=(number,)).start()
"""


@pytest.mark.parametrize("answered", [50, 700, 1500])
def test_a_process_that_is_killed(url, tmp_path, answered, monkeypatch):
    """What was answered is recorded, whatever else was under way."""
    log = tmp_path / "answered"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(log)]) as running:
        ends = time.monotonic() + 60
        while time.monotonic() < ends and (not log.exists() or log.read_bytes().count(b"\n") < answered):
            time.sleep(0.001)
        running.send_signal(signal.SIGKILL)
    told = set(log.read_text().split())
    assert len(told) >= answered
    recorder = Recorder(Store(url))
    assert recorder.flush(30) and recorder.close()
    found = recorder.counts()
    assert found.accepted == found.stored and found.waiting == found.refused == 0
    assert told <= units(url) and len(units(url)) == found.stored
