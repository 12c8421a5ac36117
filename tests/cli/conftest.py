"""A tiny clip, and the command line called in this process or as a real one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nc_refiner.cli.main import main
from nc_refiner.video import FrameWriter

from ..video.conftest import moving

FAST = ("--num-inference-steps", "4", "--strength", "0.5")
PROGRAM = [sys.executable, "-c", "from nc_refiner.cli.main import run; run()"]


@dataclass(frozen=True)
class Outcome:
    """What one call left behind."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on standard error of a call that ended with nothing on standard output."""
        assert self.out == "", self.out
        assert self.err.count("\n") == 1 and self.err.startswith("nc-refiner: "), self.err
        assert "Traceback" not in self.err
        return self.err


Call = Callable[..., Outcome]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs `nc-refiner ARGUMENTS` in this process; file descriptors are watched, so that C libraries count too."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of 64×64 at 8 fps."""
    path = tmp_path_factory.mktemp("cli") / "tiny.mp4"
    with FrameWriter(path, 8) as writer:
        writer.write(moving(4, 64, 64))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def process(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs `nc-refiner ARGUMENTS` as the console script does."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
