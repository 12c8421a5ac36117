"""The store on real servers: schema, migrations, every row once, outages, leftovers of dead processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from nc_refiner.experiment.offline.analyze import Overrides, analyze_database
from nc_refiner.experiment.reports.text import as_data
from nc_refiner.experiment.statistics.analysis import Options, analyze
from nc_refiner.experiment.statistics.observations import Exposure, Observation
from nc_refiner.experiment.store import Store, open_store
from nc_refiner.experiment.store.database import MIGRATIONS
from nc_refiner.experiment.store.events import Assignment
from nc_refiner.experiment.store.outbox import Counts
from nc_refiner.experiment.store.recorder import Recorder
from nc_refiner.experiment.store.records import Failure, Outcome, RequestRecord
from nc_refiner.experiment.store.schema import TABLES, errors, measurements, metadata, requests


def request(i: int, **changes) -> RequestRecord:
    given = {
        "experiment": "e",
        "unit": f"u{i}",
        "id": f"r{i}",
        "given": Assignment("nc", "split", 0.5),
        "served": "nc",
        "role": "live",
        "exposed": True,
        "measured": True,
        "seconds": 1.5,
        "at": 1000.0 + i,
        "seed": 2**63 - 1,
        "content_loss": (0.5, 0.25),
        "receipt": {"a": [1, float("nan")]},
    }
    return RequestRecord(**{**given, **changes})


def test_migrations_make_the_schema(url):
    store = open_store(url)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "nc_refiner_version"})
        assert compare_metadata(context, metadata) == []
        assert set(inspect(connection).get_table_names()) == {*TABLES, "nc_refiner_version"}
    store.write([])
    store.close()


def test_many_may_migrate_at_once(url):
    failures = []

    def migrate():
        try:
            open_store(url).close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_newer_database_is_refused(url):
    store = open_store(url)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE nc_refiner_version SET version_num = '9999'"))
    with pytest.raises(ValueError, match="newer"):
        open_store(url)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("mysql://u@h/x", "sqlite:///FILE or postgresql"),
        ("sqlite:////no/such/folder/x.db", "cannot be opened"),
        ("postgresql://u:secret@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_bad_urls_are_told_without_their_password(bad, words):
    with pytest.raises(ValueError, match=words) as caught:
        open_store(bad)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_made_only_when_asked(tmp_path):
    with pytest.raises(FileNotFoundError, match="no database"):
        open_store(tmp_path / "x.db", create=False)
    assert not (tmp_path / "x.db").exists()


def test_what_is_recorded_is_read_back(url):
    with_failure = request(2, served="control", failure=Failure("nc", "raised", "x\0y" + "z" * 9000), content_loss=())
    callers = request(3, served=None, failure=Failure("nc", "caller", "bad"), content_loss=(), receipt=None)
    recorder = Recorder(Store(url))
    for record in (request(1), request(1), request(4, unit="u1", id="r4"), with_failure, callers):
        recorder.put(record)
    assert recorder.close() and not open_store(url).dead_letters()
    store = open_store(url)
    exposed = [Exposure("e", f"u{i}", "nc", 1000.0 + i, 0.5) for i in (1, 2, 3)]
    assert store.exposures("e") == exposed and store.exposures("other") == []
    first = [o for o in store.observations("e") if o.at == 1001.0]
    values = {"seconds": 1.5, "error": 0.0, "content_loss": 0.25}
    assert sorted(first, key=lambda o: o.metric) == [
        Observation("e", "u1", "nc", metric, values[metric], None, 2**63 - 1, 1001.0) for metric in sorted(values)
    ]
    assert {(o.unit, o.metric): o.value for o in store.observations("e") if o.unit in ("u2", "u3")} == {
        ("u2", "seconds"): 1.5,
        ("u2", "error"): 1.0,
    }
    with store.engine.connect() as connection:
        receipts = connection.execute(select(requests.c.receipt).order_by(requests.c.at)).scalars().all()
        kinds = connection.execute(select(errors.c.kind, errors.c.message).order_by(errors.c.at)).all()
    assert receipts[0] == {"a": [1, None]}
    assert [kind for kind, _ in kinds] == ["raised", "caller"] and len(kinds[0].message) == 2000


def test_votes_have_a_place(url):
    store = open_store(url)
    vote = {"study": "s", "rater": "r", "pair": "p", "question": "texture", "choice": "nc", "left_arm": "control"}
    rows = [("votes", {"id": "v", **vote, "seconds": 3.5, "at": 1.0})]
    store.write(rows)
    store.write(rows)
    with store.engine.connect() as connection:
        assert len(connection.execute(select(TABLES["votes"])).all()) == 1


def test_a_row_the_database_refuses_holds_up_no_other(url):
    store = open_store(url)
    with store.engine.begin() as connection:
        if store.url.get_backend_name() == "sqlite":
            rule = "CREATE TRIGGER no BEFORE INSERT ON measurements WHEN NEW.arm = 'odd' "
            rule += "BEGIN SELECT RAISE(ABORT, 'no'); END"
        else:
            rule = "ALTER TABLE measurements ADD CONSTRAINT no CHECK (arm <> 'odd')"
        connection.execute(text(rule))
    recorder = Recorder(Store(url))
    for i, arm in enumerate(["nc", "odd", "nc", "odd", "nc"]):
        assert recorder.put(Outcome("e", "u", arm, "m", float(i)))
    assert recorder.close()
    assert sorted(o.value for o in store.observations("e")) == [0.0, 2.0, 4.0]
    letters = store.dead_letters("e")
    assert [json.loads(letter.record)[0][1]["value"] for letter in letters] == [1.0, 3.0]
    assert all("no" in letter.reason for letter in letters)
    again = Recorder(Store(url))
    assert again.counts() == Counts(5, 3, 0, 2) and again.close()


class Rows:
    """A record of any rows."""

    def __init__(self, *rows):
        self._rows = list(rows)

    def rows(self):
        return self._rows


MEASURED = {"id": "i", "experiment": "e", "unit": "u", "arm": "nc", "metric": "m", "value": 1.0, "at": 1.0}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("requests", 5)], "object"),
        ([("nothing", {})], "no table 'nothing'"),
        ([("measurements", {**MEASURED, "wheels": 4})], "no column 'wheels'"),
        ([("measurements", {**MEASURED, "arm": None})], "arm is missing"),
        ([("measurements", {**MEASURED, "value": float("nan")})], "value is nan; it must be a finite number"),
        ([("measurements", {**MEASURED, "value": torch.zeros(3)})], "value is tensor"),
        ([("measurements", {**MEASURED, "id": "x" * 65})], "id has 65 characters"),
        ([("measurements", {key: value for key, value in MEASURED.items() if key != "at"})], "at is missing"),
        ([("measurements", {**MEASURED, "metric": "m" * 2**21})], "the most are 1048576"),
    ],
)
def test_what_a_column_can_never_hold_is_not_taken(rows, words, tmp_path):
    recorder = Recorder(Store(tmp_path / "x.db"))
    with pytest.raises((ValueError, AttributeError), match=words):
        recorder.put(Rows(*rows))
    assert recorder.counts().accepted == 0 and recorder.close()


@pytest.mark.parametrize(
    "seed",
    [2**63, -(2**63) - 1, np.int64(3), float("nan"), torch.tensor(4), 10**5000, "three"],
    ids=lambda seed: type(seed).__name__,
)
def test_one_bad_value_stops_nothing(seed, url):
    """Every one of these stopped all recording, across restarts."""
    recorder = Recorder(Store(url))
    receipt = {"big": 10**5000, "t": torch.zeros(2, 3), "n": np.float32(0.5), "nan": float("nan"), "deep": [], "s": {3}}
    for _ in range(2000):
        receipt["deep"] = [receipt["deep"]]
    for i in range(5):
        assert recorder.put(request(i, seed=seed, receipt=receipt))
    assert recorder.close() and recorder.counts() == Counts(5, 5, 0, 0)
    with open_store(url).engine.connect() as connection:
        found = connection.execute(select(requests.c.seed, requests.c.receipt)).all()
    expected = int(seed) if isinstance(seed, (np.int64, torch.Tensor)) else None
    assert [row.seed for row in found] == [expected] * 5
    kept = found[0].receipt
    assert kept["big"].startswith("a whole number of") and kept["t"] == "Tensor of shape (2, 3)"
    assert (kept["n"], kept["nan"], kept["s"]) == (0.5, None, [3])


def test_live_traffic_is_analysed_from_either_server(url):
    recorder, observations, exposures = Recorder(Store(url)), [], []
    for i in range(60):
        arm = "nc" if i % 2 else "control"
        loss, mse = 0.1 + i % 5 / 10, (1.0 if arm == "nc" else 2.0) + i % 7 / 10
        recorder.put(request(i, given=Assignment(arm, "split", 0.5), served=arm, content_loss=(0.9, loss)))
        recorder.put(Outcome("e", f"u{i}", arm, "mse", mse, 1000.0 + i))
        for metric, value in (("seconds", 1.5), ("error", 0.0), ("content_loss", loss), ("mse", mse)):
            observations.append(Observation("e", f"u{i}", arm, metric, value, None, None, 1000.0 + i))
        exposures.append(Exposure("e", f"u{i}", arm, 1000.0 + i, 0.5))
    assert recorder.close() and not open_store(url).dead_letters()
    found = analyze_database(url, "e", Overrides(primary="mse"))
    expected = analyze(observations, Options("control", primary="mse", sequential=True), exposures)
    theirs, ours = (sorted(as_data(a)["comparisons"], key=lambda c: c["metric"]) for a in (found, expected))
    assert theirs == ours and [c["metric"] for c in ours] == ["content_loss", "error", "mse", "seconds"]
    (mse,) = (c for c in found.comparisons if c.metric.name == "mse")
    assert mse.verdict == "better" and mse.interval.high < 0


def test_an_outage_over_a_restart_loses_and_doubles_nothing(postgres, tmp_path):
    first = Recorder(Store(postgres.url), tmp_path)
    for i in range(50):
        first.put(request(i))
    assert first.flush()
    postgres.kill()
    for i in range(50, 100):
        first.put(request(i))
    assert not first.close(timeout=0.3)
    assert first.put(request(1)) is False
    second = Recorder(Store(postgres.url), tmp_path)
    second.put(request(100))
    postgres.start()
    assert second.flush(60) and second.close()
    assert [e.unit for e in open_store(postgres.url).exposures("e")] == [f"u{i}" for i in range(101)]
    assert second.folder == tmp_path and sorted(path.name for path in tmp_path.iterdir()) == ["outbox.db"]


def test_a_killed_process_leaves_its_records_to_the_next(url, tmp_path):
    code = (
        "import os, pathlib, time\n"
        "from nc_refiner.experiment.store import Store\n"
        "from nc_refiner.experiment.store.recorder import Recorder\n"
        "from nc_refiner.experiment.store.records import Outcome\n"
        f"recorder = Recorder(Store('postgresql://u@127.0.0.1:1/x'), pathlib.Path({str(tmp_path)!r}))\n"
        "for i in range(20): recorder.put(Outcome('e', f'u{i}', 'nc', 'm', 1.0))\n"
        "while recorder._fresh: time.sleep(0.01)\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    recorder = Recorder(Store(url), tmp_path)
    assert recorder.flush(30) and recorder.close()
    assert len(open_store(url).observations("e")) == 20


def test_a_clean_exit_without_close_loses_nothing(url, tmp_path):
    code = (
        "from nc_refiner.experiment.store import Store\n"
        "from nc_refiner.experiment.store.recorder import Recorder\n"
        "from nc_refiner.experiment.store.records import Outcome\n"
        f"recorder = Recorder(Store({url!r}))\n"
        "for i in range(200): recorder.put(Outcome('e', f'u{i}', 'nc', 'm', 1.0))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(open_store(url).observations("e")) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_worker_records_too(url):
    recorder = Recorder(Store(url))
    recorder.put(Outcome("e", "parent", "nc", "m", 1.0))
    assert recorder.flush()
    child = os.fork()
    if child == 0:
        recorder.put(Outcome("e", "child", "nc", "m", 1.0))
        os._exit(0 if recorder.close() else 1)
    assert os.waitpid(child, 0)[1] == 0
    recorder.put(Outcome("e", "parent again", "nc", "m", 1.0))
    assert recorder.close()
    assert {o.unit for o in open_store(url).observations("e")} == {"parent", "child", "parent again"}


def test_full_memory_and_full_disk_take_no_more_and_count(tmp_path):
    unreachable = Store("postgresql://u@127.0.0.1:1/x")
    recorder = Recorder(unreachable, tmp_path / "a", capacity=50, max_bytes=2**17, flush_seconds=0.001)
    taken = 0
    for i in range(2000):
        taken += recorder.put(Outcome("e", f"u{i}", "nc", "m", 1.0))
        time.sleep(1e-4)
    assert not recorder.close(timeout=0.1)
    assert 100 < taken < 2000 and recorder.dropped == 2000 - taken
    with pytest.raises(ValueError, match="at least 1"):
        Recorder(Store(tmp_path / "x.db"), capacity=0)


def test_what_versions_before_the_outbox_left_is_taken_over(url, tmp_path):
    good = Outcome("e", "u", "nc", "m", 1.0).rows()[0]
    lines = [json.dumps(good), '["requests", 5]', "5", "null", "[" * 5000, '["measurements", {"id": "cut sh']
    (tmp_path / "old.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recorder = Recorder(Store(url), tmp_path)
    assert recorder.put(Outcome("e", "u2", "nc", "m", 2.0)) and recorder.close()
    store = open_store(url)
    assert sorted(o.value for o in store.observations("e")) == [1.0, 2.0]
    assert [letter.record for letter in store.dead_letters()] == ['[["requests", 5]]']
    assert not list(tmp_path.glob("*.jsonl"))


def test_durable_records_survive_a_kill_at_once(url, tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from nc_refiner.experiment import ABPipeline\n"
        "from nc_refiner.experiment.store import Store\n"
        "from nc_refiner.experiment.store.recorder import Recorder\n"
        f"recorder = Recorder(Store('postgresql://u@127.0.0.1:1/x'), pathlib.Path({str(tmp_path)!r}), durable=True)\n"
        "ab = ABPipeline({'control': abs, 'nc': abs}, 'e', store=recorder)\n"
        "for i in range(300): ab(i, unit=f'u{i}')\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    recorder = Recorder(Store(url), tmp_path)
    assert recorder.flush(30) and recorder.counts() == Counts(300, 300, 0, 0) and recorder.close()
    assert len(open_store(url).exposures("e")) == 300


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_old_databases_go_on(url, revision):
    store = Store(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        columns = "id, experiment, unit, arm, metric, value, at"
        connection.execute(text(f"INSERT INTO measurements ({columns}) VALUES ('i', 'e', 'u', 'nc', 'm', 1, 1)"))
        connection.commit()
    store.close()
    recorder = Recorder(Store(url))
    assert recorder.put(Outcome("e", "u2", "nc", "m", 2.0)) and recorder.close()
    assert [o.value for o in open_store(url).observations("e")] == [1.0, 2.0]


def test_a_thread_that_ends_is_started_again_and_says_so(url, caplog, monkeypatch):
    recorder, failing = Recorder(Store(url)), [SystemExit(3), GeneratorExit(), MemoryError()]
    deliver = recorder._deliver

    def ends(batch):
        if failing:
            raise failing.pop()
        deliver(batch)

    monkeypatch.setattr(recorder, "_deliver", ends)
    for i in range(20):
        recorder.put(Outcome("e", f"u{i}", "nc", "m", 1.0))
    assert recorder.close() and recorder.restarts == 2
    assert "nc-refiner-database stopped unexpectedly and is started again" in caplog.text
    assert len(open_store(url).observations("e")) == 20


def test_measurements_are_indexed_by_experiment(url):
    store = open_store(url)
    names = {index["name"] for index in inspect(store.engine).get_indexes(measurements.name)}
    assert "measurements_by_time" in names
