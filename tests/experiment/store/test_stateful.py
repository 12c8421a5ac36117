"""accepted = stored + waiting + refused, whatever requests, bad values, failures and restarts lead to."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
import uuid
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import InvalidRequestError

from nc_refiner.experiment.store import Store, open_store
from nc_refiner.experiment.store.encoding import replayed
from nc_refiner.experiment.store.events import Assignment
from nc_refiner.experiment.store.recorder import Recorder
from nc_refiner.experiment.store.records import Outcome, RequestRecord
from nc_refiner.experiment.store.schema import TABLES, dead_letters

from ..servers import empty

VALUES = st.sampled_from([0, 1.5, -3, 2**63, -(2**63) - 1, float("nan"), float("inf"), 10**4000, "x", None, b"\xff"])
TEXTS = st.text(max_size=5) | st.sampled_from(["\0", "\ud800", "é" * 300])


class Measured:
    """A measurement, whatever its value."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    def rows(self):
        names = {"id": uuid.uuid4().hex, "experiment": "e", "unit": self.name, "arm": self.name, "metric": "m"}
        return [("measurements", {**names, "value": self.value, "at": time.time()})]


def crash(recorder: Recorder) -> None:
    """As if the process were gone: nothing more is written from its memory."""
    recorder._outbox.close()
    atexit.unregister(recorder._at_exit)
    recorder._deadline = 0.0
    for flag in (recorder._closing, recorder._drained, recorder._wake, recorder._more):
        flag.set()
    assert all(thread.join(15) for thread in recorder._threads)
    recorder.store.close()


class Machine(RuleBasedStateMachine):
    """One recorder after the other on one database and one outbox, and what it must have by now."""

    def connect(self) -> None:
        """Set `url`, and empty what is there."""
        raise NotImplementedError

    @initialize(durable=st.booleans())
    def begin(self, durable: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ncstate"))
        self.durable, self.sent, self.first, self.unnoticed, self.undo = durable, 0, True, False, []
        self.connect()
        self.open()

    def open(self) -> None:
        self.store = Store(self.url)
        self.recorder = Recorder(self.store, self.folder / "outbox", flush_seconds=0.005, durable=self.durable)

    def put(self, record) -> None:
        try:
            self.sent += self.recorder.put(record)
        except ValueError:
            return

    @rule(value=VALUES, name=TEXTS)
    def outcome(self, value, name) -> None:
        """One measurement; what is no number is not taken."""
        self.put(Measured(name, value))

    @rule(seed=VALUES, receipt=VALUES, unit=TEXTS, failed=st.booleans())
    def request(self, seed, receipt, unit, failed) -> None:
        given, served = Assignment("nc", "split", 0.5), None if failed else "nc"
        record = RequestRecord(
            *("e", unit, uuid.uuid4().hex, given, served, "live", False, False, 0.5, time.time()),
            seed=seed,
            receipt={"a": receipt, "t": torch.zeros(2)},
        )
        self.put(record)

    @rule()
    def refused_by_the_database(self) -> None:
        """A row that is right for us, and that a rule of the database's own refuses."""
        self.put(Outcome("e", "u", "refused", "m", 1.0))

    @rule(count=st.integers(10, 60))
    def many(self, count: int) -> None:
        for i in range(count):
            self.put(Outcome("e", f"u{i}", "nc", "m", float(i)))

    @rule()
    def wait(self) -> None:
        time.sleep(0.02)

    @precondition(lambda self: not self.undo)
    @rule(failure=st.sampled_from(["locked", "read-only", "full"]))
    def fails(self, failure: str) -> None:
        self.undo.append(self.failing(failure))

    @precondition(lambda self: self.undo)
    @rule()
    def works_again(self) -> None:
        while self.undo:
            self.undo.pop()()

    @rule()
    def outbox_deleted(self) -> None:
        shutil.rmtree(self.folder / "outbox", ignore_errors=True)
        self.unnoticed = True

    @precondition(lambda self: self.first)
    @rule()
    def database_gone(self) -> None:
        """Removed or emptied; this process writes again what it had stored there."""
        self.works_again()
        assert self.recorder.flush(20)
        self.remove()
        # Killed before it noticed, it would take with it what it remembers.
        assert self.recorder.flush(20)

    @rule()
    def killed(self) -> None:
        """The process ends without a word: what is in the outbox stays, what is in memory alone does not."""
        self.works_again()
        if not self.durable or self.unnoticed:
            # Killed before it noticed that its outbox is gone, it would take the only copy with it.
            self.recorder.flush(20)
        self.unnoticed = False
        crash(self.recorder)
        self.first = False
        self.open()

    @rule()
    def restarted(self) -> None:
        self.works_again()
        assert self.recorder.close(20)
        self.first = False
        self.open()

    @rule()
    def dead_letters_replayed(self) -> None:
        self.works_again()
        assert self.recorder.flush(20)
        store = open_store(self.url)
        replayed(store)
        store.close()

    @invariant()
    def adds_up(self) -> None:
        if not hasattr(self, "recorder"):
            return
        found = self.recorder.counts()
        assert found.accepted == found.stored + found.waiting + found.refused, found
        assert found.accepted == self.sent and found.lost == 0, (found, self.sent)

    def teardown(self) -> None:
        if not hasattr(self, "recorder"):
            return
        try:
            self.works_again()
            assert self.recorder.flush(30)
            found = self.recorder.counts()
            assert found.waiting == 0 and found.accepted == self.sent == found.stored + found.refused
            store = open_store(self.url)
            with store.engine.connect() as connection:
                stored = sum(
                    connection.execute(select(func.count()).select_from(TABLES[name])).scalar_one()
                    for name in ("measurements", "requests")
                )
                letters = connection.execute(select(func.count()).select_from(dead_letters)).scalar_one()
            assert stored + letters == self.sent, (stored, letters, found)
            store.close()
            assert self.recorder.close(10)
        finally:
            self.recorder.close(0)
            shutil.rmtree(self.folder, ignore_errors=True)


class OnSQLite(Machine):
    template: Path

    def connect(self) -> None:
        self.url = f"sqlite:///{self.folder / 'ab.db'}"
        shutil.copy(self.template, self.folder / "ab.db")

    def remove(self) -> None:
        for path in self.folder.glob("ab.db*"):
            path.unlink(missing_ok=True)

    def failing(self, failure: str):
        if failure == "locked":
            connection = sqlite3.connect(self.folder / "ab.db", isolation_level=None, timeout=10)
            connection.execute("BEGIN IMMEDIATE")
            return lambda: (connection.execute("ROLLBACK"), connection.close())
        line = "query_only = ON" if failure == "read-only" else "max_page_count = 1"
        return self.on_connect(lambda connection, _: connection.execute(f"PRAGMA {line}"))

    def on_connect(self, configure):
        engine = self.store.engine
        event.listen(engine, "connect", configure)
        engine.dispose()

        def undo():
            # A pool that the recorder made anew meanwhile may have lost it already.
            with contextlib.suppress(InvalidRequestError):
                event.remove(engine, "connect", configure)
            engine.dispose()

        return undo


class OnPostgres(OnSQLite):
    server: str

    def connect(self) -> None:
        self.url = self.server
        store = open_store(self.url)
        with store.engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(name for name in TABLES if name != 'identity')}"))
            connection.execute(text("ALTER TABLE measurements DROP CONSTRAINT IF EXISTS no"))
            connection.execute(text("ALTER TABLE measurements ADD CONSTRAINT no CHECK (arm <> 'refused')"))
        store.close()

    def remove(self) -> None:
        empty(self.url)

    def failing(self, failure: str):
        if failure == "locked":
            open_store(self.url).close()
            engine = Store(self.url).engine
            connection = engine.connect()
            connection.execute(text("LOCK TABLE measurements, requests IN ACCESS EXCLUSIVE MODE"))
            return lambda: (connection.rollback(), connection.close(), engine.dispose())

        def configure(connection, _):
            connection.execute("SET default_transaction_read_only = on")
            connection.commit()

        return self.on_connect(configure)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("template") / "ab.db"
    store = open_store(path)
    refuse = (
        "CREATE TRIGGER no BEFORE INSERT ON measurements WHEN NEW.arm = 'refused' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with store.engine.begin() as connection:
        connection.execute(text(refuse))
    store.close()
    return path


def sequences(machine: type[Machine], count: int) -> None:
    # Threads make no sequence exactly repeatable, so that there is nothing to shrink.
    unhurried = settings(
        max_examples=count,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(machine, settings=unhurried)


LONG = int(os.environ.get("NC_REFINER_SEQUENCES", "0"))
COUNTS = [10, pytest.param(LONG, marks=pytest.mark.skipif(not LONG, reason="NC_REFINER_SEQUENCES=500 runs so many"))]


@pytest.mark.parametrize("count", COUNTS)
def test_sqlite(template, count):
    sequences(type("OnSQLite", (OnSQLite,), {"template": template}), count)


@pytest.mark.parametrize("count", COUNTS)
def test_postgres(postgres, count):
    sequences(type("OnPostgres", (OnPostgres,), {"server": postgres.url}), count)
