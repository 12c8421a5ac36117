"""An object store on loopback as source and as output: clips there and back; a killed upload leaves nothing half."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nc_refiner.cascade import CascadeRunner, ConfigError, load_config
from nc_refiner.cascade.cluster import ClusterRunner, read_results
from nc_refiner.cascade.cluster.destination import at
from nc_refiner.cascade.manifest import read_manifest
from nc_refiner.video import FrameWriter

from ..video.conftest import moving
from .conftest import actors, kill, program, videos, wait_for

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto.server", reason="moto's server is not installed: pip install 'moto[server]'")

CLIPS = 20


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """A bucket on a real server; everything in this process and its children finds it by the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    given = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        wait_for(lambda: _answers(port), 60)
        system = s3fs.S3FileSystem(skip_instance_cache=True)
        system.mkdir("clips")
        yield system
    finally:
        server.kill()
        server.wait()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _answers(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def listed(system: Any, place: str) -> dict[str, bytes]:
    system.invalidate_cache()
    return {name.partition("/")[2]: system.cat_file(name) for name in system.find(place)}


@pytest.fixture
def sources(store, tmp_path) -> Path:
    """Twenty little clips in the bucket, one of them broken, and a manifest that names them."""
    lines = ["id,source,prompt,batch"]
    for index in range(CLIPS):
        local = tmp_path / f"in{index}.mp4"
        with FrameWriter(local, 8) as writer:
            writer.write(moving(2, 32, 32 + 16 * (index % 3)))
        store.put_file(str(local), f"clips/in/{index}.mp4")
        lines.append(f"shot{index},s3://clips/in/{index}.mp4,clip {index},{index // 5}")
    store.pipe_file("clips/in/3.mp4", b"broken")
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "config.yaml").write_text("version: 1\nbase: file\nrefiner: darker\n", encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.long
def test_there_and_back(store, sources, tmp_path):
    manifest, config = tmp_path / "list.csv", tmp_path / "config.yaml"
    store.put_file(str(manifest), "clips/list.csv")
    out = "s3://clips/out"
    arguments = ["cascade", config, "--manifest", "s3://clips/list.csv", "--workers", 2, "--output", out]
    ran = program(*arguments)
    said, told = ran.communicate(timeout=500)
    assert ran.returncode == 1 and f"{CLIPS - 1} of {CLIPS} done; everything is in {out}" in said, told
    items = read_manifest(manifest)
    CascadeRunner(load_config(config), items=items, output=tmp_path / "serial").run()
    wanted, found = videos(tmp_path / "serial"), listed(store, "clips/out")
    made = {name.partition("/")[2]: content for name, content in found.items() if name.endswith((".mp4", ".mkv"))}
    # Another source mark, the same pixels: files and URLs are told apart by record only.
    assert made == wanted and len(wanted) == 5 * (CLIPS - 1)
    table = read_results(out).to_pylist()
    assert len(table) == CLIPS and {row["batch"] for row in table} == {str(index) for index in range(4)}
    (broken,) = [row for row in table if row["status"] == "failed"]
    assert broken["name"] == "shot3" and broken["cause"] == "failed"
    done = next(row for row in table if row["name"] == "shot0")
    assert done["final"] == f"{out}/shot0/final.mp4" and done["source"] == "s3://clips/in/0.mp4"
    # Going on finds the records there; one clip that lost a file is made again.
    store.rm_file("clips/out/shot5/base.frames.mkv")
    again = program(*arguments, "--resume", "--json")
    said, told = again.communicate(timeout=500)
    assert said.count('"state": "done"') == 1, told
    after = listed(store, "clips/out")
    assert {name: after[name] for name in after if name.endswith((".mp4", ".mkv"))} == {
        name: content for name, content in found.items() if name.endswith((".mp4", ".mkv"))
    }


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_upload_leaves_nothing_half(store, sources, tmp_path):
    manifest, config = tmp_path / "list.csv", tmp_path / "config.yaml"
    out = "s3://clips/killed"
    arguments = ["cascade", config, "--manifest", manifest, "--workers", 2, "--output", out]
    first = program(*arguments)

    def some() -> bool:
        store.invalidate_cache()
        return len(store.glob("clips/killed/*/refiner.done.json")) >= 4

    wait_for(some, 300)
    for pid in actors():
        kill(pid)
    first.kill()
    first.communicate()
    wait_for(lambda: not actors(), 60)
    items = read_manifest(manifest)
    CascadeRunner(load_config(config), items=items, output=tmp_path / "serial").run()
    wanted = videos(tmp_path / "serial")

    def named(content: dict[str, bytes]) -> dict[str, bytes]:
        return {name.partition("/")[2]: value for name, value in content.items() if name.endswith((".mp4", ".mkv"))}

    halfway = named(listed(store, "clips/killed"))
    assert 0 < len(halfway) < len(wanted)
    assert {name: wanted[name] for name in halfway} == halfway
    # The same machine, another process: the place is taken over at once.
    second = program(*arguments, "--resume")
    said, told = second.communicate(timeout=500)
    assert f"{CLIPS - 1} of {CLIPS} done" in said, told
    assert named(listed(store, "clips/killed")) == wanted
    assert read_results(out).num_rows == CLIPS


@pytest.mark.usefixtures("ray_here")
def test_two_runs_into_one_place(store, cheap):
    from nc_refiner.cascade.cluster.alone import SIGN, alone

    config = load_config(cheap(["one"]))
    place = at("s3://clips/taken")
    with alone(place, "other"), pytest.raises(ConfigError, match="another run is at work in s3://clips/taken"):
        ClusterRunner(config, workers=1, output="s3://clips/taken").run()
    assert place.read(SIGN) is None


def test_an_output_that_is_none(store, cheap):
    config = load_config(cheap(["one"]))
    with pytest.raises(ConfigError, match="add --workers"):
        CascadeRunner(config, output="s3://clips/serial")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nosuch"):
        ClusterRunner(config, output="nosuch://clips/x")
    with pytest.raises(ConfigError, match=r"cannot be (reached|written)"):
        ClusterRunner(config, output="s3://no-such-bucket-here/x").run()


def test_elsewhere_a_temporary_is_renamed(tmp_path):
    place = at(f"file://{tmp_path}/out")
    place.write("table", b"whole")
    folder = place.open("item")
    (folder / "a").write_bytes(b"a")
    place.put("item", ["a"])
    assert place.read("item/a") == b"a" and place.read("table") == b"whole" and place.names("item") == ["a"]
    assert not list(Path(tmp_path).rglob("*.part"))
