"""What a bad disk or a curious hand leaves in a cascade's folder: the stage is made again, the result is the same."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nc_refiner.files import FileError, clear_parts, exclusive, read_text

from .conftest import KINDS, clips, folders, run

pytestmark = pytest.mark.usefixtures("small_model")

ONE = """version: 1
prompt: clouds
seed: 5
base: {type: embedded, frames: 2, height: 32, width: 32, num_inference_steps: 3}
interpolation: {type: blend, factor: 2}
refiner: {type: nc, iterations: 1, num_inference_steps: 4, strength: 0.5}
"""


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x", encoding="utf-8")


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _record(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        record = json.loads(path.read_text(encoding="utf-8"))
        changed = change(record)
        path.write_text(changed if isinstance(changed, str) else json.dumps(record), encoding="utf-8")

    return damage


FILES = (".mp4", ".json", ".frames.mkv", ".receipt.json")
DAMAGES: dict[str, Callable[[Path], None]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "flipped": _flip,
    "folder": _folder,
    "link": _link,
}
RECORDS: dict[str, Callable[[Path], None]] = {
    "gone": DAMAGES["gone"],
    "empty": DAMAGES["empty"],
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00" * 50),
    "folder": _folder,
    "null": _record(lambda record: "null"),
    "list": _record(lambda record: "[5]"),
    "deep": _record(lambda record: "[" * 100_000),
    "no files": _record(lambda record: record.pop("files")),
    "files a list": _record(lambda record: record.update(files=[])),
    "clip gone": _record(lambda record: record.pop("clip")),
    "clip a text": _record(lambda record: record.update(clip="x")),
    "more frames": _record(lambda record: record["clip"].update(frames=99)),
    "other fps": _record(lambda record: record["clip"].update(fps=-1)),
    "history a number": _record(lambda record: record["clip"].update(history=3)),
    "another digest": _record(lambda record: record["clip"].update(digest="0" * 64)),
    "a fallback": _record(lambda record: record.update(fallback=["x"])),
}
CASES = [(stage, suffix, name) for stage in KINDS for suffix in FILES for name in ("gone", "flipped")]
CASES += [("interpolation", suffix, name) for suffix in FILES for name in ("empty", "short", "folder", "link")]
CASES += [(stage, ".done.json", name) for stage in ("base", "refiner") for name in RECORDS]
QUICK = [("base", ".frames.mkv", "flipped"), ("refiner", ".done.json", "deep"), ("base", ".done.json", "other fps")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The config, and the folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "one.yaml").write_text(ONE, encoding="utf-8")
    assert not run(folder / "one.yaml", folder / "out").failed
    return folder / "one.yaml", folder / "out"


def _resumed(whole: tuple[Path, Path], out: Path, stage: str, suffix: str, damage: Callable[[Path], None]) -> None:
    config, undisturbed = whole
    shutil.copytree(undisturbed, out)
    damage(folders(out)[0] / f"{stage}{suffix}")
    summary = run(config, out, resume=True)
    assert not summary.failed, summary.items[0].error
    assert summary.items[0].stages[stage] == "done"
    assert clips(out) == clips(undisturbed)


@pytest.mark.parametrize(("stage", "suffix", "name"), QUICK)
def test_a_damaged_stage_is_made_again(whole, tmp_path, stage, suffix, name):
    _resumed(whole, tmp_path / "out", stage, suffix, (RECORDS if suffix == ".done.json" else DAMAGES)[name])


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "suffix", "name"), CASES)
def test_every_damage_is_mended(whole, tmp_path, stage, suffix, name):
    _resumed(whole, tmp_path / "out", stage, suffix, (RECORDS if suffix == ".done.json" else DAMAGES)[name])


COMMAND = """version: 1
prompt: clouds
output: OUT
base:
  type: command
  command: [PYTHON, make.py, ., "{output}"]
  READS
refiner: none
"""
MAKE = """
import sys
from pathlib import Path
import torch
from nc_refiner import VideoClip
from nc_refiner.video import write_clip
write_clip(VideoClip(torch.full((2, 3, 32, 32), float(Path("level.txt").read_text()))), sys.argv[2])
"""


def test_a_command_that_works_in_the_folder_it_writes_into_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    (tmp_path / "make.py").write_text(MAKE, encoding="utf-8")
    (tmp_path / "level.txt").write_text("0.25", encoding="utf-8")
    text = COMMAND.replace("PYTHON", sys.executable).replace("OUT", "out")
    (tmp_path / "a.yaml").write_text(text.replace("READS", "reads: [level.txt]"), encoding="utf-8")

    def state() -> str:
        return run(tmp_path / "a.yaml", tmp_path / "out", resume=True).items[0].stages["base"]

    assert state() == "done"
    assert state() == "skipped", "its own output is no input"
    (tmp_path / "unrelated.txt").write_text("x", encoding="utf-8")
    assert state() == "skipped"
    (tmp_path / "level.txt").write_text("0.5", encoding="utf-8")
    assert state() == "done", "a declared input changed"
    (tmp_path / "make.py").write_text(MAKE + "\n", encoding="utf-8")
    assert state() == "done", "a file among the arguments changed"


def test_names_that_are_no_utf8_cost_nobody_else_anything(tmp_path):
    from nc_refiner.video import FrameWriter, probe

    from ..video.conftest import moving

    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        with FrameWriter(tmp_path / "clips" / f"{name}.mp4", 8) as writer:
            writer.write(moving(2, 32, 32))
    os.rename(tmp_path / "clips" / "b.mp4", os.fsencode(tmp_path / "clips") + b"/b\xff.mp4")
    (tmp_path / "clips" / "a.json").write_text('{"prompt": "a \\ud800 cat"}', encoding="utf-8")
    (tmp_path / "a.yaml").write_text(
        f"version: 1\nbase: {{type: file, path: {tmp_path / 'clips'}}}\n"
        "refiner: {type: nc, num_inference_steps: 2, strength: 0.5, iterations: 1}\n",
        encoding="utf-8",
    )
    summary = run(tmp_path / "a.yaml", tmp_path / "out")
    assert [item.failed for item in summary.items] == [False, False], [item.error for item in summary.items]
    assert all(probe(item.final).frames == 2 for item in summary.items)
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["failed"] == 0


def test_only_regular_files_within_a_limit_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path, "is a folder"),
        (tmp_path / "absent", "does not exist"),
    ):
        with pytest.raises(FileError, match=words):
            read_text(path, 100, "a text")
    (tmp_path / "large").write_text("x" * 101, encoding="utf-8")
    with pytest.raises(FileError, match="is larger than"):
        read_text(tmp_path / "large", 100, "a text")


def test_one_at_a_time_and_leftovers_go(tmp_path):
    target = tmp_path / "out.mp4"
    (tmp_path / ".out.mp4.abc.part").write_text("x", encoding="utf-8")
    (tmp_path / ".other.mp4.abc.part").write_text("x", encoding="utf-8")
    with exclusive(target, "busy"), pytest.raises(FileError, match="busy"), exclusive(target, "busy"):
        pass
    clear_parts(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.mp4.abc.part"]
