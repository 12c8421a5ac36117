"""`nc-refiner init`: every file it writes is a cascade that checks, and the embedded one runs as written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nc_refiner.cascade.config import load_config
from nc_refiner.cascade.starts import start_text, starts
from nc_refiner.video import probe

from .conftest import Call


def test_every_host_has_a_file_that_checks(call: Call, tmp_path: Path) -> None:
    assert set(starts()) == {"embedded", "wan", "ltx", "sdxl", "modelscope", "videocrafter"}
    for host, what in starts().items():
        path = tmp_path / f"{host}.yaml"
        outcome = call("init", str(path), "--host", host)
        assert outcome.code == 0 and what in outcome.out and f"nc-refiner cascade {path}" in outcome.out
        config = load_config(path)
        assert config.refiner is not None
        # What a newcomer changes first is there, with a word on what it does.
        text = path.read_text(encoding="utf-8")
        assert "iterations: 3" in text and "sdedit" in text and text.count("#") > 5


def test_the_embedded_file_runs(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("init").code == 0
    small = ["base.frames=2", "base.height=32", "base.width=48", "refiner.iterations=1"]
    outcome = call("cascade", "cascade.yaml", *(part for value in small for part in ("--set", value)))
    assert outcome.code == 0, outcome.err
    (final,) = (tmp_path / "out/embedded").glob("*/final.mp4")
    # Between two frames a blend by two adds one.
    assert probe(final).frames in (3, 4)


def test_a_file_that_is_there_is_kept(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine: true\n", encoding="utf-8")
    outcome = call("init", str(path), "--host", "wan")
    assert outcome.code == 2 and "--overwrite" in outcome.err and yaml.safe_load(path.read_text()) == {"mine": True}
    assert call("init", str(path), "--host", "wan", "--overwrite").code == 0
    assert path.read_text(encoding="utf-8") == start_text("wan")


def test_printed_and_unknown(call: Call) -> None:
    assert call("init", "-", "--host", "sdxl").out == start_text("sdxl")
    outcome = call("init", "-", "--host", "wann")
    assert outcome.code == 2 and "did you mean 'wan'" in outcome.err
    assert call("init", "-", "--host", "../../secrets").code == 2
