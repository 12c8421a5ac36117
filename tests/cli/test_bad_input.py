"""Whatever is wrong with a call: one line, exit code 2, nothing written, the input untouched."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from nc_refiner.cli.main import main
from nc_refiner.video import FrameWriter

from ..video.conftest import make_video, moving
from .conftest import FAST, Call, contents, process


@pytest.fixture
def room(tmp_path: Path, tiny: Path) -> Path:
    """A folder with a copy of the tiny clip, in.mp4, as the working folder of the call."""
    (tmp_path / "in.mp4").write_bytes(tiny.read_bytes())
    return tmp_path


def refused(call: Call, room: Path, *arguments: object, code: int = 2) -> str:
    """The line of a call that must fail and change nothing in `room`."""
    before = contents(room)
    outcome = call("refine", *arguments)
    assert outcome.code == code, outcome
    assert contents(room) == before
    return outcome.line


def bad_files(room: Path, good: bytes) -> dict[str, str]:
    """Makes one file per kind of trouble; name → words its message must hold."""
    (room / "cut.mp4").write_bytes(good[: int(len(good) * 0.6)])
    (room / "text.mp4").write_text("not a video\n" * 100)
    (room / "empty.mp4").touch()
    with av.open(str(room / "zero.mp4"), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    make_video(room / "dot.mkv", torch.zeros(2, 3, 1, 1), codec="ffv1", pix_fmt="bgr0", options={})
    header = b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C420jpeg\n"
    (room / "bomb.mp4").write_bytes(header + (b"FRAME\n" + bytes(384)) * 36_100)
    (room / "folder.mp4").mkdir()
    return {
        "cut.mp4": "cut off",
        "text.mp4": "cannot be read as a video",
        "empty.mp4": "empty",
        "zero.mp4": "frame",
        "dot.mkv": "the minimum is 16x16",
        "bomb.mp4": "the limit is 36000; cut the video or read fewer frames with --max-frames",
        "folder.mp4": "is a folder",
        "none.mp4": "no such file",
    }


def test_bad_files(call: Call, room: Path) -> None:
    for name, words in bad_files(room, (room / "in.mp4").read_bytes()).items():
        assert words in refused(call, room, room / name, room / "out.mp4", *FAST), name
        assert words in refused(call, room, room / "in.mp4", room / "out.mp4", "--compare", "--original", room / name)


def test_a_bomb_may_be_read_in_part(call: Call, room: Path) -> None:
    bad_files(room, (room / "in.mp4").read_bytes())
    assert call("refine", room / "bomb.mp4", room / "out.mp4", "--max-frames", 2, *FAST).code == 0


BAD_OPTIONS = {
    "--iterations -1": "iterations is -1; it must be",
    "--iterations 1.5": "'1.5'",
    "--iterations=1.5": "'1.5'",
    "--iterations many": "'many'",
    "--cutoff 1.5": "cutoff is 1.5; it must lie in [0, 1]",
    "--cutoff nan": "cutoff is nan",
    "--strength 0": "strength is 0.0; it must lie in (0, 1]",
    "--strength 2": "strength is 2.0",
    "--strength nan": "strength is nan",
    "--strength inf": "strength is inf",
    "--strength 0.001": "leaves no step to run",
    "--strength": "requires an argument",
    "--strength 0.5 --start-timestep 300": "give only one of them",
    "--start-timestep nan": "start_timestep is nan",
    "--start-timestep 5000": "must lie in 0…999",
    "--num-inference-steps 0": "num_inference_steps is 0",
    "--guidance-scale nan": "guidance_scale is nan",
    "--tolerance 0": "tolerance is 0",
    "--seed -1": "seed is -1",
    "--seed 99999999999999999999": "seed is 99999999999999999999",
    "--window 999": "window is 999 frames; embedded takes at most 32",
    "--window 0": "window is 0",
    "--overlap -1": "overlap is -1",
    "--max-frames 0": "max_frames is 0",
    "--height 3": "height is 3",
    "--height 99999999": "the limit is",
    "--refiner embeded": "did you mean 'embedded'",
    "--device gpu7": "device 'gpu7' cannot be used",
    "--device meta": "here there is: cpu",
    "--colour": "No such option: --colour",
    "third.mp4": "unexpected extra argument",
    "--original in.mp4": "--original is what --compare",
    "--demo": "--demo brings its own",
    "--from-receipt none.json": "no receipt at none.json",
    "--from-receipt in.mp4": "is not a receipt",
    "--from-receipt in.mp4 --seed 3 --reuse-prediction": "already decides --reuse-prediction, --seed",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_options(call: Call, room: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    monkeypatch.chdir(room)
    line = refused(call, room, "in.mp4", "out.mp4", *options.split())
    assert BAD_OPTIONS[options] in line


def test_missing_arguments(call: Call, room: Path) -> None:
    assert "INPUT and OUTPUT are needed" in refused(call, room)
    assert "INPUT and OUTPUT are needed" in refused(call, room, room / "in.mp4")
    assert call("refien").line and call("refien").code == 2


def test_outputs_that_cannot_be(call: Call, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(room)
    (room / "d.mp4").mkdir()
    (room / "e.json").mkdir()
    expected = {
        "missing/out.mp4": "does not exist",
        "in.mp4/out.mp4": "not a folder",
        "out.avi": "ends in .avi; OUTPUT must end in .mp4",
        "out": "has no ending",
        "d.mp4": "is a folder",
        "e.mp4": "e.json is a folder",
        "out.png": "holds one picture, the input has 4 frames",
        "x" * 300 + ".mp4": "too long",
    }
    for output, words in expected.items():
        assert words in refused(call, room, "in.mp4", output, *FAST), output


def test_an_unwritable_folder(call: Call, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so that the refusal is played.
    system = os.open

    def refuse(path: object, flags: int, *rest: object, **named: object) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return system(path, flags, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    assert "no permission to write" in refused(call, room, room / "in.mp4", room / "out.mp4", *FAST)


def test_the_input_is_never_the_output(call: Call, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(room)
    (room / "link.mp4").symlink_to("in.mp4")
    os.link("in.mp4", "hard.mp4")
    (room / "sub").mkdir()
    for output in ("in.mp4", room / "in.mp4", "./sub/../in.mp4", "link.mp4", "hard.mp4"):
        assert "is the input itself" in refused(call, room, "in.mp4", output, "--overwrite", *FAST)
    assert "is the input itself" in refused(call, room, "link.mp4", "in.mp4", "--overwrite", *FAST)
    (room / "a.mp4").write_bytes((room / "in.mp4").read_bytes())
    line = refused(call, room, "in.mp4", "a.mp4", "--compare", "--original", "a.mp4", "--overwrite", *FAST)
    assert "is the input itself" in line


def test_the_sidecar_of_the_input_is_kept(call: Call, room: Path) -> None:
    (room / "in.json").write_text('{"prompt": "a camel"}')
    line = refused(call, room, room / "in.mp4", room / "in.png", "--max-frames", 1, "--overwrite", *FAST)
    assert "would be the sidecar of" in line


def test_files_of_others_are_kept(call: Call, room: Path) -> None:
    for name in ("out.mp4", "out.json", "out.receipt.json", "out.contact.png"):
        (room / name).write_text("mine")
        line = refused(call, room, room / "in.mp4", room / "out.mp4", "--compare", *FAST)
        assert f"{name} exists and no earlier refine to OUTPUT wrote it" in line
        (room / name).unlink()
    (room / "out.mp4").write_text("mine")
    assert call("refine", room / "in.mp4", room / "out.mp4", "--overwrite", *FAST).code == 0
    assert call("refine", room / "in.mp4", room / "out.mp4", *FAST).code == 0


def test_an_original_of_another_size_or_length(call: Call, room: Path) -> None:
    for name, frames in (("size.mp4", moving(4, 64, 96)), ("length.mp4", moving(3, 64, 64))):
        with FrameWriter(room / name, 8) as writer:
            writer.write(frames)
        line = refused(call, room, room / "in.mp4", room / "out.mp4", "--compare", "--original", room / name, *FAST)
        assert "an original must match the input" in line


def test_receipts_that_cannot_be_repeated(call: Call, room: Path) -> None:
    assert call("refine", room / "in.mp4", room / "a.mp4", *FAST).code == 0
    good = json.loads((room / "a.receipt.json").read_text())
    changes = (
        {"settings": []},
        {"settings": {**good["settings"], "colour": 1}},
        {"settings": {**good["settings"], "strength": "high"}},
        {"calibration": {**good["calibration"], "iterations": -1}},
        {"adapter": {}},
        {"adapter": None},
        {"reading": 3},
    )
    for change in changes:
        (room / "bad.json").write_text(json.dumps({**good, **change}))
        line = refused(call, room, room / "in.mp4", room / "b.mp4", "--from-receipt", room / "bad.json")
        assert "cannot be repeated" in line, change
    (room / "bad.json").write_text(json.dumps({**good, "adapter": {"name": "elsewhere"}}))
    line = refused(call, room, room / "in.mp4", room / "b.mp4", "--from-receipt", room / "bad.json")
    assert "unknown refiner 'elsewhere'" in line


@pytest.mark.parametrize("moment", ["writing", "placing"])
def test_a_full_disk(call: Call, room: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    arguments = (room / "in.mp4", room / "out.mp4", "--compare", *FAST)
    assert call("refine", *arguments).code == 0

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if moment == "writing":
        monkeypatch.setattr(FrameWriter, "_encode", full)
    else:
        monkeypatch.setattr(os, "fsync", full)
    before = contents(room)
    outcome = call("refine", *arguments, "--seed", 5)
    assert outcome.code == 1 and "the disk is full, nothing was written" in outcome.err
    assert contents(room) == before


def test_a_file_size_limit(room: Path) -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from nc_refiner.cli.main import run; run()"
    )
    arguments = ["refine", "in.mp4", "out.mp4", "--iterations", "0", *FAST]
    before = contents(room)
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=room, capture_output=True, text=True)
    assert done.returncode == 1 and "limit" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert contents(room) == before


def test_a_failed_run_is_exit_code_1(call: Call, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nc_refiner.adapters.embedded import EmbeddedRefiner

    monkeypatch.setattr(EmbeddedRefiner, "decode", lambda self, latents: torch.full((4, 3, 64, 64), float("nan")))
    before = contents(room)
    outcome = call("refine", room / "in.mp4", room / "out.mp4", *FAST)
    assert outcome.code == 1 and outcome.out == "" and contents(room) == before
    assert "the run failed: embedded produced NaN" in outcome.err.splitlines()[-1]


def test_a_run_out_of_memory(call: Call, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nc_refiner.adapters.embedded import EmbeddedRefiner

    def hungry(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore\n")

    monkeypatch.setattr(EmbeddedRefiner, "encode", hungry)
    outcome = call("refine", room / "in.mp4", room / "out.mp4", *FAST)
    assert outcome.code == 1 and "use a smaller --height" in outcome.err.splitlines()[-1]


def test_a_traceback_on_request(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NC_REFINER_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no such file"):
        main(["refine", str(room / "none.mp4"), str(room / "out.mp4")])


def test_as_a_process(room: Path) -> None:
    before = contents(room)
    done = process("refine", "none.mp4", "out.mp4", cwd=room)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nc-refiner: none.mp4: no such file; check the name\n"
    assert contents(room) == before


@pytest.mark.parametrize(
    "damage",
    [
        {"input": 5},
        {"input": ["x"]},
        {"versions": "1.0"},
        {"versions": {"torch": 2}},
        {"reading": 3},
        {"timesteps": "all"},
        {"settings": {"seed": []}},
        {"evaluations": {"calibration": "x"}},
    ],
    ids=str,
)
def test_receipts_of_the_wrong_type_are_refused_before_the_run(call: Call, room: Path, damage: dict[str, Any]) -> None:
    arguments = (room / "in.mp4", room / "a.mp4", *FAST)
    assert call("refine", *arguments).code == 0
    good = json.loads((room / "a.receipt.json").read_text(encoding="utf-8"))
    (room / "bad.json").write_text(json.dumps({**good, **damage}), encoding="utf-8")
    before = contents(room)
    outcome = call("refine", room / "in.mp4", room / "b.mp4", "--from-receipt", room / "bad.json")
    assert outcome.code == 2 and "cannot be repeated" in outcome.line
    assert contents(room) == before


def test_a_number_without_bound_and_a_message_without_end(call: Call, room: Path) -> None:
    line = refused(call, room, room / "in.mp4", room / "b.mp4", "--iterations", 10**9)
    assert "at most 100" in line
    outcome = call("refine", room / "in.mp4", room / "b.mp4", "--refiner", "x" * 100_000)
    assert outcome.code == 2 and len(outcome.line) < 2000


def test_what_is_no_regular_file_is_not_read(call: Call, room: Path) -> None:
    os.mkfifo(room / "pipe.yaml")
    for arguments in (
        ("refine", room / "in.mp4", room / "b.mp4", "--from-receipt", room / "pipe.yaml"),
        ("cascade", room / "pipe.yaml"),
        ("cascade", "/dev/zero"),
        ("sweep", room / "pipe.yaml"),
        ("ab", "run", room / "pipe.yaml"),
        ("refine", room / "pipe.yaml", room / "b.mp4"),
    ):
        outcome = call(*arguments)
        assert outcome.code == 2 and "regular file" in outcome.line, arguments
