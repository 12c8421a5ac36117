"""A start as a user would: ComfyUI on the CPU, our folder in custom_nodes, a small workflow run to its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .comfyui_rig import checkout
from .comfyui_server import CHECKPOINT, lay_out, started

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = checkout()
    folder = tmp_path_factory.mktemp("comfyui")
    lay_out(root, folder)
    with started(root, folder) as running:
        yield running


def workflow(iterations: int, prefix: str) -> dict[str, Any]:
    """Image to image at half denoise, with the node on the model's line and a report after the sampler."""
    node = lambda kind, **inputs: {"class_type": kind, "inputs": inputs}  # noqa: E731
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "2": node("CLIPTextEncode", text="a rabbit in a meadow", clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
        "4": node("LoadImage", image="frame.png"),
        "5": node("VAEEncode", pixels=["4", 0], vae=["1", 2]),
        "6": node("NoiseCalibration", model=["1", 0], iterations=iterations, cutoff=1.0, reuse_prediction=False,
                  guidance=-1.0),
        "7": node("KSampler", model=["6", 0], seed=1, steps=3, cfg=2.0, sampler_name="euler", scheduler="normal",
                  positive=["2", 0], negative=["3", 0], latent_image=["5", 0], denoise=0.4),
        "8": node("VAEDecode", samples=["7", 0], vae=["1", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix=prefix),
        "10": node("NoiseCalibrationReport", model=["6", 0], latent=["7", 0]),
    }  # fmt: skip


def test_both_nodes_are_listed(server):
    found = server.get("/object_info/NoiseCalibration")["NoiseCalibration"]
    assert found["output"] == ["MODEL"] and found["category"] == "sampling/custom_sampling"
    options = {**found["input"]["required"], **found["input"].get("optional", {})}
    assert list(options) == ["model", "iterations", "cutoff", "reuse_prediction", "guidance"]
    assert all(option[1]["tooltip"] for option in options.values())
    assert options["iterations"][1]["default"] == 3
    report = server.get("/object_info/NoiseCalibrationReport")["NoiseCalibrationReport"]
    assert report["output"] == ["STRING", "IMAGE"] and report["output_node"]
    log = server.log.read_text("utf-8", "replace")
    assert "nc_refiner" in log and "(IMPORT FAILED)" not in "".join(
        line for line in log.splitlines() if "custom_nodes/nc_refiner" in line
    )


def test_help_pages_and_example_workflows_are_served(server):
    from urllib.request import urlopen

    for name in ("NoiseCalibration", "NoiseCalibrationReport"):
        with urlopen(f"{server.url}/extensions/nc_refiner/docs/{name}.md") as page:
            assert page.read().decode().startswith("# ")
    templates = server.get("/workflow_templates")
    assert len(templates["nc_refiner"]) == 4


def test_a_small_workflow_runs_to_its_picture(server):
    shown = server.queue(workflow(3, "calibrated"))
    assert "Noise Calibration: 3 iterations" in shown["10"]["text"][0] and shown["10"]["images"]
    server.queue(workflow(0, "plain"))
    (calibrated,), (plain,) = ([picture(path)] for path in outputs(server.folder))
    assert calibrated.shape == plain.shape == (64, 96, 3)
    assert not np.array_equal(calibrated, plain) and calibrated.std() > 1


def outputs(folder: Path) -> list[Path]:
    return [next(folder.glob(f"output/{prefix}_*.png")) for prefix in ("calibrated", "plain")]


def picture(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path).convert("RGB")).astype(float)
