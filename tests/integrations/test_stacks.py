"""The stages for LaVie, Show-1 and VGen on the folders, names and keys those stacks use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from integrations.lavie import refine as lavie
from integrations.show1 import refine as show1
from integrations.vgen import refine as vgen
from nc_refiner.cascade.folders import main
from nc_refiner.video import FrameWriter, probe, read_clip

from ..video.conftest import moving

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"type": "nc", "iterations": 1, "num_inference_steps": 2, "strength": 0.5}


def clip(path: Path, frames: int = 3, fps: float = 24, height: int = 32, width: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FrameWriter(path, fps) as writer:
        writer.write(moving(frames, height, width))
    return path


def config(path: Path, **values: object) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


NAMES = ("a_teddy_bear_walking_on_the_street,_2k,_high_quality.mp4", "jungle_river_at_sunset,_ultra_quality.mp4")


@pytest.fixture
def lavie_folder(tmp_path: Path) -> Path:
    for name in NAMES:
        clip(tmp_path / "res" / "interpolation" / name)
    (tmp_path / "res" / "interpolation" / "notes.txt").write_text("not a clip", encoding="utf-8")
    return tmp_path


def run_lavie(folder: Path, *arguments: str, **values: object) -> int:
    res = folder / "res"
    keys = {
        "input_folder": f"{res / 'interpolation'}/",
        "output_folder": f"{res / 'refined'}/",
        "refiner": QUICK,
        **values,
    }
    written = config(folder / "lavie.yaml", **keys)
    return main("lavie", "--config", lavie.plan, lavie.KEYS, ["--config", str(written), *arguments])


def test_lavie_names_are_what_its_vsr_reads(lavie_folder, capsys):
    assert run_lavie(lavie_folder, seed_list=[3418], additional_prompt=", 4k.") == 0
    refined = lavie_folder / "res" / "refined"
    # LaVie's vsr/sample.py lists the folder unfiltered and appends .mp4 to each name without it.
    assert sorted(os.listdir(refined)) == sorted(NAMES)
    for name in NAMES:
        info = probe(refined / name)
        assert (info.frames, float(info.fps), info.height, info.width) == (3, 24.0, 32, 48)
        before = read_clip(lavie_folder / "res" / "interpolation" / name)
        assert not torch.equal(read_clip(refined / name).frames, before.frames)
    receipt = json.loads(
        (lavie_folder / "res" / "refined_receipts" / f"{NAMES[1][:-4]}.receipt.json").read_text("utf-8")
    )
    assert receipt["prompt"] == "jungle river at sunset, ultra quality, 4k."
    assert receipt["settings"]["seed"] == 3418 and receipt["calibration"]["iterations"] == 1
    assert "2 of 2 done" in capsys.readouterr().out


def test_lavie_goes_on_where_it_was(lavie_folder, capsys):
    refined = lavie_folder / "res" / "refined"
    refined.mkdir()
    (refined / NAMES[0]).write_bytes(b"kept")
    assert run_lavie(lavie_folder) == 0
    assert (refined / NAMES[0]).read_bytes() == b"kept" and "kept" in capsys.readouterr().out
    assert run_lavie(lavie_folder, "--overwrite") == 0
    assert probe(refined / NAMES[0]).frames == 3


def test_lavie_one_broken_clip_does_not_stop_the_other(lavie_folder, capsys):
    (lavie_folder / "res" / "interpolation" / NAMES[0]).write_bytes(b"no video")
    assert run_lavie(lavie_folder) == 1
    assert os.listdir(lavie_folder / "res" / "refined") == [NAMES[1]]
    assert "1 of 2 done" in capsys.readouterr().out


def test_lavie_seeds_get_folders_of_their_own(lavie_folder):
    assert run_lavie(lavie_folder, seed_list=[1, 2]) == 0
    first, second = (lavie_folder / "res" / name / NAMES[0] for name in ("refined", "refined_seed2"))
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"input_foldr": "x"}, "did you mean 'input_folder'"),
        ({"seed_list": []}, "seed_list is []"),
        ({"seed_list": 3}, "it must be a list"),
        ({"refiner": {"type": "nc", "cutof": 1}}, "did you mean 'cutoff'"),
        ({"refiner": "none"}, "no refiner"),
        ({"input_folder": "missing"}, "is not a folder"),
    ],
)
def test_lavie_bad_configs(lavie_folder, capsys, values, words):
    assert run_lavie(lavie_folder, **values) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (lavie_folder / "res" / "refined").exists()


@pytest.mark.slow
def test_lavie_shaped_folder_through_the_script(tmp_path):
    clip(tmp_path / "res" / "interpolation" / NAMES[0], frames=61, height=80, width=128)
    written = config(
        tmp_path / "lavie.yaml",
        input_folder="res/interpolation",
        output_folder="res/refined",
        seed_list=[3418],
        refiner={"type": "nc", "iterations": 1, "num_inference_steps": 4, "window": 16},
    )
    command = [sys.executable, str(ROOT / "integrations" / "lavie" / "refine.py"), "--config", str(written)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    info = probe(tmp_path / "res" / "refined" / NAMES[0])
    assert (info.frames, float(info.fps), info.height, info.width) == (61, 24.0, 80, 128)


@pytest.mark.skipif(not os.environ.get("LAVIE_ROOT"), reason="LAVIE_ROOT names no checkout of LaVie")
def test_lavie_real_configs_and_vsr_listing():
    root = Path(os.environ["LAVIE_ROOT"])
    ours = yaml.safe_load((ROOT / "configs" / "lavie.yaml").read_text("utf-8"))
    interpolation = yaml.safe_load((root / "interpolation" / "configs" / "sample.yaml").read_text("utf-8"))["args"]
    vsr = yaml.safe_load((root / "vsr" / "configs" / "sample.yaml").read_text("utf-8"))
    assert ours["input_folder"] == interpolation["output_folder"]
    assert {"seed_list", "additional_prompt", "negative_prompt"} <= set(interpolation)
    assert "input_path" in vsr
    source = (root / "vsr" / "sample.py").read_text("utf-8")
    assert "sorted(os.listdir(video_root))" in source and 'f"{video_root}/{video_name}.mp4"' in source


def test_show1_reads_and_writes_the_scripts_names(tmp_path, capsys):
    frames = [Image.fromarray((frame.permute(1, 2, 0) * 255).byte().numpy()) for frame in moving(4, 32, 64)]
    prompt = "A burning lamborghini driving on rainbow."
    (tmp_path / "example").mkdir()
    frames[0].save(tmp_path / "example" / f"{prompt}_sr1.gif", save_all=True, append_images=frames[1:], duration=125)
    written = config(tmp_path / "show1.yaml", output_dir=str(tmp_path / "example"), seed=345, refiner=QUICK)
    assert main("show1", "--config", show1.plan, show1.KEYS, ["--config", str(written)]) == 0
    info = probe(tmp_path / "example_refined" / f"{prompt}.mp4")
    assert (info.frames, info.height, info.width) == (4, 32, 64)
    # A GIF's delays are whole hundredths of a second: 0.125 becomes 0.12.
    assert float(info.fps) == pytest.approx(8, rel=0.05)
    shutil.rmtree(tmp_path / "example")
    assert main("show1", "--config", show1.plan, show1.KEYS, ["--config", str(written)]) == 2
    assert "run_inference.py first" in capsys.readouterr().err


@pytest.mark.skipif(not os.environ.get("SHOW1_ROOT"), reason="SHOW1_ROOT names no checkout of Show-1")
def test_show1_real_script():
    source = (Path(os.environ["SHOW1_ROOT"]) / "run_inference.py").read_text("utf-8")
    assert "{output_dir}/{prompt}_sr1.gif" in source and "pipe_sr_2 = VideoToVideoSDPipeline" in source
    ours = yaml.safe_load((ROOT / "configs" / "show1.yaml").read_text("utf-8"))
    assert f"strength={ours['refiner']['strength']}" in source and f"seed = {ours['seed']}" in source


SR600 = {
    "TASK_TYPE": "inference_sr600_entrance",
    "round": 1,
    "seed": 6666,
    "embedder": {
        "type": "FrozenOpenCLIPTextVisualEmbedder",
        "positive_prompt": ", cinematic",
        "negative_prompt": "blurry",
    },
    "total_noise_levels": 700,
}


def test_vgen_reads_and_writes_its_names(tmp_path, capsys):
    captions = ["# a comment", "A camel, walking in the desert!|42", "Clouds over a hill.", "", "No clip here"]
    listed = tmp_path / "text_list_for_t2v_share.txt"
    listed.write_text("\n".join(captions), encoding="utf-8")
    folder = tmp_path / "experiments" / "text_list_for_t2v_share"
    clip(folder / "rank_01_00_0001_A_camel_walking_in_the_desert.mp4", fps=8)
    clip(folder / "rank_01_00_0002_Clouds_over_a_hill.mp4", fps=8)
    written = config(
        tmp_path / "sr600.yaml",
        **SR600,
        test_list_path=str(listed),
        log_dir=str(tmp_path / "experiments"),
        num_steps=1000000,
    )
    refiner = config(tmp_path / "refiner.yaml", refiner=QUICK)
    arguments = ["--cfg", str(written), "--refiner", str(refiner)]
    assert main("vgen", "--cfg", vgen.plan, None, arguments) == 0
    assert "2 of 2 done" in capsys.readouterr().out
    outputs = sorted(path.name for path in folder.glob("*_sr.mp4"))
    assert outputs == [
        "rank_01_00_0001_A_camel_walking_in_the_desert_sr.mp4",
        "rank_01_00_0002_Clouds_over_a_hill_sr.mp4",
    ]
    receipts = folder.with_name(f"{folder.name}_receipts")
    found = [json.loads(path.read_text("utf-8")) for path in sorted(receipts.iterdir())]
    assert [receipt["settings"]["seed"] for receipt in found] == [42, 6666]
    assert found[0]["prompt"] == "A camel, walking in the desert!, cinematic"
    assert found[0]["settings"]["negative_prompt"] == "blurry"


@pytest.mark.skipif(not os.environ.get("VGEN_ROOT"), reason="VGEN_ROOT names no checkout of VGen")
def test_vgen_real_config_and_names():
    root = Path(os.environ["VGEN_ROOT"])
    keys = yaml.safe_load((root / "configs" / "sr600_infer.yaml").read_text("utf-8"))
    assert set(SR600) <= set(keys) and {"test_list_path", "log_dir"} <= set(keys)
    source = (root / "tools" / "inferences" / "inference_sr600_entrance.py").read_text("utf-8")
    assert r"re.sub(r'[^\w\s]', '', caption).replace(' ', '_')" in source
    assert "rank_{cfg.world_size:02d}_{cfg.rank:02d}_{idx:04d}_{cap_name}_sr.mp4" in source
