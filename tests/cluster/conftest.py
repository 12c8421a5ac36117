"""A real Ray on this machine, one for all tests; cheap stages that the workers find as an installed package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PLUGIN = HERE / "plugin"
ROOT = HERE.parents[1]
PROGRAM = [sys.executable, "-c", "from nc_refiner.cli.main import run; run()"]
CHEAP = "version: 1\nprompt: {prompts}\nseed: 7\nbase: {base}\nrefiner: {refiner}\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Ray every test here is skipped, and says why."""
    if find_spec("ray") is None:
        skip = pytest.mark.skip(reason="Ray is not installed: pip install 'nc_refiner[ray]'")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def plugin() -> Iterator[None]:
    """The stages of `plugin/` are installed, for this process and those it starts."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PLUGIN), str(ROOT), before]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(PLUGIN))
    yield
    sys.path.remove(str(PLUGIN))
    os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="session")
def ray_here() -> Iterator[Any]:
    """A Ray of our own for the whole session, which runs use as a program's own connection."""
    import ray

    from nc_refiner.cascade.cluster.session import session

    with session(None, 8):
        yield ray


@pytest.fixture
def cheap(tmp_path: Path) -> Callable[..., Path]:
    """Writes a config of cheap stages for some prompts."""

    def write(prompts: list[str], base: str = "cheap", refiner: str = "darker", name: str = "cheap.yaml") -> Path:
        path = tmp_path / name
        path.write_text(CHEAP.format(prompts=json.dumps(prompts), base=base, refiner=refiner), encoding="utf-8")
        return path

    return write


def videos(output: Path) -> dict[str, bytes]:
    """Every clip under `output`."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.m[pk][4v]"))}


def program(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    """`nc-refiner ARGUMENTS` as a process."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def wait_for(true: Callable[[], Any], seconds: float = 120) -> Any:
    """What `true` returns once it is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def actors(at_work: bool = False) -> list[int]:
    """Process ids of the workers that are alive; `at_work`: not those that are starting."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if b"ray::MapWorker" in line and not (at_work and b"__init__" in line):
                found.append(int(entry.name))
    return found


def kill(pid: int) -> None:
    """SIGKILL; one that is gone already is fine."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
