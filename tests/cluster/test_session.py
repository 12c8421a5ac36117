"""Where Ray is not, or is another, one line says so and nothing is written; a cluster that is there is joined."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from nc_refiner.cascade import ConfigError, load_config
from nc_refiner.cascade.cluster import ClusterRunner, read_results
from nc_refiner.cascade.cluster.pools import needed_cpus, pools
from nc_refiner.cascade.cluster.session import Capacity, session

from ..cli.conftest import Call, call  # noqa: F401
from .conftest import ROOT, actors, program, wait_for

RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


@pytest.fixture(autouse=True)
def token(monkeypatch) -> str:
    """A token made up for the clusters of these tests."""
    made = uuid.uuid4().hex
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", made)
    return made


@contextmanager
def cluster(path: str, folder: Path) -> Iterator[str]:
    """A Ray that runs already, whose workers import from `path`; its address."""
    port = free_port()
    command = ["start", "--head", "--block", f"--port={port}", "--num-cpus=4", "--include-dashboard=false"]
    command += ["--disable-usage-stats", f"--temp-dir={folder}"]
    process = subprocess.Popen(
        [*RAY, *command],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: _listens(port), 120)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def test_an_address_where_no_ray_is(cheap, tmp_path):
    config = cheap(["one"])
    for address, words in [
        (f"127.0.0.1:{free_port()}", "there is no Ray at 127.0.0.1:"),
        ("nowhere", "write host:port"),
        ("ray://127.0.0.1:10001", "ray job submit"),
    ]:
        # A process of its own: in this one another test may have joined a Ray already, which would be used.
        ran = program("cascade", config, "--ray", address, "--output", tmp_path / "out")
        _, told = ran.communicate(timeout=300)
        assert ran.returncode == 2 and words in told and "Traceback" not in told
        assert not list((tmp_path / "out").rglob("*.json"))


def test_a_program_that_has_joined_another_ray(ray_here):
    joined = ray_here.get_runtime_context().gcs_address
    with pytest.raises(ConfigError, match=f"joined the Ray at {joined} already.*use the one at 127.0.0.1:1;"):
        _capacity("127.0.0.1:1")
    for address in (None, "auto", joined, f"127.0.0.1:{joined.rpartition(':')[2]}"):
        assert _capacity(address).cpus >= 8
    assert ray_here.is_initialized(), "a program's own connection is left open"


def _capacity(address: str | None) -> Capacity:
    with session(address) as found:
        return found


@pytest.mark.slow
@pytest.mark.long
def test_a_port_where_something_else_listens(cheap, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ran = program(
            "cascade", cheap(["one"]), "--ray", f"127.0.0.1:{other.getsockname()[1]}", "--output", tmp_path / "o"
        )
        _, told = ran.communicate(timeout=300)
    assert ran.returncode == 2 and "there is no Ray to join at 127.0.0.1:" in told and "Traceback" not in told


@pytest.mark.slow
@pytest.mark.long
def test_a_cluster_is_joined_and_left(cheap, tmp_path, short):
    path = os.environ["PYTHONPATH"]
    with cluster(path, short) as address:
        ran = program("cascade", cheap(["one", "two"]), "--ray", address, "--output", tmp_path / "out")
        said, told = ran.communicate(timeout=300)
        assert ran.returncode == 0 and "2 of 2 done" in said, told
        again = program("cascade", cheap(["one", "two"]), "--ray", address, "--output", tmp_path / "out", "--resume")
        said, _ = again.communicate(timeout=300)
        assert again.returncode == 0
        assert read_results(str(tmp_path / "out")).num_rows == 2
        stranger = {**os.environ, "RAY_AUTH_TOKEN": uuid.uuid4().hex}
        ran = program("cascade", cheap(["one"]), "--ray", address, "--output", tmp_path / "no", env=stranger)
        _, told = ran.communicate(timeout=300)
        assert ran.returncode == 2 and "wants its token" in told and "Traceback" not in told, told


@pytest.mark.slow
@pytest.mark.long
def test_another_version_on_the_cluster(cheap, tmp_path, short):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "nc_refiner", other / "nc_refiner", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "nc_refiner" / "calibration.py").open("a", encoding="utf-8") as file:
        file.write("\n# another\n")
    with cluster(str(other), short) as address:
        # Started elsewhere, since Ray's workers look into the driver's folder first.
        ran = program("cascade", cheap(["one"]), "--ray", address, "--output", tmp_path / "out", cwd=tmp_path)
        _, told = ran.communicate(timeout=300)
        assert ran.returncode == 2 and "with other code or another torch than here" in told, told
        # From here they find the same code, but no such stage.
        ran = program("cascade", cheap(["one"]), "--ray", address, "--output", tmp_path / "out", cwd=ROOT)
        _, said = ran.communicate(timeout=300)
        assert ran.returncode == 2 and "cannot run this cascade: No module named 'batch_stages'" in said, said
        code = "import ray; ray.__version__ = '2.0.0'; from nc_refiner.cli.main import run; run()"
        command = [sys.executable, "-c", code, "cascade", str(cheap(["one"])), "--ray", address]
        old = subprocess.run(
            [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, timeout=300, cwd=tmp_path
        )
        assert old.returncode == 2 and "runs other versions" in old.stderr, old.stderr
        assert "Traceback" not in old.stderr + told
    assert not list((tmp_path / "out").rglob("*.done.json"))


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name is short enough for Ray's sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.long
def test_ctrl_c_stops_and_the_next_run_goes_on(cheap, tmp_path):
    config = cheap([f"clip {index}" for index in range(40)], "{type: cheap, pause: 0.3}")
    out = tmp_path / "out"
    ran = program("cascade", config, "--workers", 2, "--output", out)
    wait_for(lambda: len(list(out.glob("*/final.mp4"))) >= 5, 200)
    ran.send_signal(signal.SIGINT)
    _, told = ran.communicate(timeout=120)
    assert ran.returncode == 1 and "Traceback" not in told, told
    assert (
        told.splitlines()[-1] == f"nc-refiner: interrupted; finished stages stay in {out}; --resume goes on with them"
    )
    wait_for(lambda: not actors(), 60)
    # The last of them may have had no time to come into the table; their folders say it all.
    assert 1 <= read_results(str(out)).num_rows < 40
    again = program("cascade", config, "--workers", 2, "--output", out, "--resume", "--json")
    said, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    events = [json.loads(line) for line in said.splitlines()]
    assert events[0]["event"] == "start" and events[-1]["event"] == "end" and events[-1]["failed"] == 0
    assert {event["event"] for event in events} == {"start", "begin", "stage", "clip", "end"}
    assert read_results(str(out)).num_rows == 40


def test_two_runs_into_one_folder(cheap, tmp_path):
    (tmp_path / "out").mkdir()
    runner = ClusterRunner(load_config(cheap(["one"])), workers=1, output=tmp_path / "out")
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ConfigError, match="another run is at work"):
        runner.run()


def test_an_earlier_run_is_not_touched(cheap, tmp_path):
    (tmp_path / "out" / "000-one").mkdir(parents=True)
    (tmp_path / "out" / "000-one" / "base.done.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="pass --resume"):
        ClusterRunner(load_config(cheap(["one"])), workers=1, output=tmp_path / "out")


def test_options_that_do_not_fit(cheap, tmp_path, call: Call):  # noqa: F811
    config = cheap(["one"])
    for options, words in [
        (("--timeout", "5"), "are for a run on Ray"),
        (("--workers", "0"), "workers is 0"),
        (("--workers", "1", "--timeout", "-1"), "timeout is -1"),
        (("--manifest", "a.csv", "--prompt-file", "b"), "give one of them"),
    ]:
        outcome = call("cascade", config, "--output", tmp_path / "out", *options)
        assert outcome.code == 2 and words in outcome.line
    assert not (tmp_path / "out").exists()


def test_pools(cheap):
    plain = load_config(cheap(["one"]))
    both = ["base", "refiner"]
    (pool,) = pools(plain, both, None, Capacity(8, 0, 1))
    assert (pool.kinds, pool.actors, pool.gpus) == (("base", "refiner"), 8, 0)
    (pool,) = pools(plain, both, None, Capacity(64, 4, 1))
    assert (pool.actors, pool.gpus) == (4, 1)
    parted = load_config(cheap(["one"], "cheap", "{type: darker, resources: {gpus: 0.5, cpus: 2, actors: 3}}"))
    first, second = pools(parted, both, 2, Capacity(16, 4, 2))
    assert (first.actors, second.actors, second.gpus, second.cpus) == (2, 3, 0.5, 2)
    assert needed_cpus(parted, both, 2) == 9
    with pytest.raises(ConfigError, match=r"ask for 3\.5 gpus, the cluster has 1"):
        pools(parted, both, 2, Capacity(16, 1, 2))


def test_without_ray_one_line_says_how_to_install_it(cheap, monkeypatch, call: Call):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray.data", None)
    outcome = call("cascade", cheap(["one"]), "--workers", "1")
    assert outcome.code == 2 and "pip install 'nc_refiner[ray]'" in outcome.line
