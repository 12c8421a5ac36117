"""The store on real servers: schema, migrations, every row once, outages, leftovers of dead processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from nc_refiner.experiment.offline.analyze import Overrides, analyze_database
from nc_refiner.experiment.reports.text import as_data
from nc_refiner.experiment.statistics.analysis import Options, analyze
from nc_refiner.experiment.statistics.observations import Exposure, Observation
from nc_refiner.experiment.store import Store, open_store
from nc_refiner.experiment.store.events import Assignment
from nc_refiner.experiment.store.journal import Journal
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
    assert recorder.close() and recorder.rejected == 0
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
    class Odd:
        def rows(self):
            return [("measurements", {"id": "odd", "experiment": "e", "unit": "u", "arm": None, "metric": "m"})]

    class Broken:
        def rows(self):
            raise RuntimeError("no rows")

    recorder = Recorder(Store(url))
    for record in (Outcome("e", "u", "nc", "m", 1.0), Odd(), Broken(), Outcome("e", "u", "nc", "m", 2.0)):
        recorder.put(record)
    folder = recorder._folder
    assert recorder.close() and recorder.rejected == 2
    assert sorted(o.value for o in open_store(url).observations("e")) == [1.0, 2.0]
    assert json.loads((folder / "rejected.txt").read_text())["row"][1]["id"] == "odd"


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
    assert recorder.close() and recorder.rejected == 0
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
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_killed_process_leaves_its_records_to_the_next(url, tmp_path):
    code = (
        "import os, pathlib, time\n"
        "from nc_refiner.experiment.store import Store\n"
        "from nc_refiner.experiment.store.recorder import Recorder\n"
        "from nc_refiner.experiment.store.records import Outcome\n"
        f"recorder = Recorder(Store('postgresql://u@127.0.0.1:1/x'), pathlib.Path({str(tmp_path)!r}))\n"
        "for i in range(20): recorder.put(Outcome('e', f'u{i}', 'nc', 'm', 1.0))\n"
        "while recorder.waiting or recorder._journalling: time.sleep(0.01)\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    (leftover,) = tmp_path.glob("*.jsonl")
    with leftover.open("ab") as file:
        file.write(b'["measurements", {"id": "cut sh')
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


def test_full_queue_and_full_disk_drop_and_count(tmp_path):
    recorder = Recorder(Store("postgresql://u@127.0.0.1:1/x"), tmp_path / "a", max_bytes=1000, flush_seconds=0.001)
    for i in range(100):
        recorder.put(Outcome("e", f"u{i}", "nc", "m", 1.0))
        while recorder.waiting:
            pass
    assert not recorder.close(timeout=0.1)
    assert 0 < recorder.dropped < 100
    with pytest.raises(ValueError, match="at least 1"):
        Recorder(Store(tmp_path / "x.db"), capacity=0)


def test_journal_keeps_order_over_segments(tmp_path, monkeypatch):
    monkeypatch.setattr("nc_refiner.experiment.store.journal.SEGMENT_BYTES", 200)
    journal = Journal(tmp_path)
    for i in range(50):
        assert journal.append([("t", {"id": i})])
    other = Journal(tmp_path)
    assert other.peek(10) == ([], None), "a living process's segments are its own"
    found = []
    while True:
        rows, token = journal.peek(7)
        if token is None:
            break
        found += [row["id"] for _, row in rows]
        journal.done(token)
    assert found == list(range(50)) and journal.waiting_bytes == 0
    journal.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_measurements_are_indexed_by_experiment(url):
    store = open_store(url)
    names = {index["name"] for index in inspect(store.engine).get_indexes(measurements.name)}
    assert "measurements_by_time" in names
