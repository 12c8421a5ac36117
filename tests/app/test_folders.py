"""A page that stays open for days keeps the files of its latest runs alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nc_refiner.app.folders import RunFolders


def test_the_oldest_goes(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = RunFolders(most=2)
    made = []
    for number in range(4):
        made.append(folders.new())
        (made[-1] / "refined.mp4").write_text(str(number))
    assert sorted(tmp_path.iterdir()) == sorted(made[2:])
    assert [(folder / "refined.mp4").read_text() for folder in made[2:]] == ["2", "3"]


def test_none_stays_when_the_process_ends(tmp_path):
    program = (
        "import tempfile\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "from nc_refiner.app.folders import RunFolders\n"
        "folders = RunFolders()\n"
        "print(folders.new())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert Path(done.stdout.strip()).parent == tmp_path and not list(tmp_path.iterdir())
