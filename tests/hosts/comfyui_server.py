"""ComfyUI started as a user starts it, in a folder of its own, our folder in custom_nodes, with a small checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
from PIL import Image
from safetensors.torch import save_file

from nc_refiner.assets import demo_clip
from nc_refiner.video import read_clip

from ..adapters.diffusers.tiny_parts import seeded
from .comfyui_rig import STAND_INS, imported

PROJECT = Path(__file__).resolve().parents[2]
NODE = PROJECT / "integrations" / "comfyui"
CHECKPOINT = "tiny.safetensors"


def write_checkpoint(root: Path, path: Path) -> None:
    """What ComfyUI takes for Stable Diffusion 1.5, random: one block of its UNet, CLIP-L, the tiny autoencoder."""
    imported(root)
    import comfy.ops
    import comfy.sd1_clip
    import comfy.supported_models
    import comfy.taesd.taesd
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=[1],
        num_heads=8, use_spatial_transformer=True, transformer_depth=[1], transformer_depth_output=[1, 1],
        transformer_depth_middle=1, context_dim=768, legacy=False, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    parts = {
        "model.diffusion_model.": seeded(unet, 1),
        "cond_stage_model.": seeded(comfy.sd1_clip.SDClipModel(device="cpu", dtype=torch.float32), 2),
        "first_stage_model.": seeded(comfy.taesd.taesd.TAESD(), 3),
    }
    weights = {
        prefix + name: value.half().contiguous()
        for prefix, module in parts.items()
        for name, value in module.state_dict().items()
        if name not in ("logit_scale", "text_projection.weight", "transformer.text_projection.weight")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)


def lay_out(root: Path, folder: Path) -> None:
    """A base directory of ComfyUI: models, inputs, and our folder among the custom nodes."""
    write_checkpoint(root, folder / "models" / "checkpoints" / CHECKPOINT)
    shutil.copytree(NODE, folder / "custom_nodes" / "nc_refiner", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("input", "output", "temp", "user"):
        (folder / name).mkdir()
    frame = read_clip(demo_clip()[0], max_frames=1).frames[0, :, :64, :96]
    Image.fromarray(frame.mul(255).byte().permute(1, 2, 0).numpy()).save(folder / "input" / "frame.png")


class Server:
    """A running ComfyUI."""

    def __init__(self, port: int, folder: Path, log: Path):
        self.url, self.folder, self.log = f"http://127.0.0.1:{port}", folder, log

    def get(self, path: str) -> Any:
        with urlopen(self.url + path, timeout=20) as answer:
            return json.loads(answer.read())

    def queue(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Run a workflow in the API's form to its end; what its nodes showed, by node."""
        body = json.dumps({"prompt": prompt}).encode()
        try:
            with urlopen(Request(f"{self.url}/prompt", body, {"Content-Type": "application/json"}), timeout=20) as sent:
                name = json.loads(sent.read())["prompt_id"]
        except HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        for _ in range(600):
            history = self.get(f"/history/{name}").get(name)
            if history and history["status"]["completed"]:
                found: dict[str, Any] = history["outputs"]
                return found
            assert not history or history["status"]["status_str"] != "error", history["status"]
            time.sleep(0.5)
        raise AssertionError("the workflow did not end")


@contextmanager
def started(root: Path, folder: Path) -> Iterator[Server]:
    """ComfyUI on a free port, in a process of its own, until the block is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--cpu", "--port", str(port), "--base-directory", str(folder), "--disable-auto-launch",
                 "--database-url", "sqlite:///:memory:"]  # fmt: skip
    if find_spec("comfyui_frontend_package") is None:
        page = folder / "page"
        page.mkdir(exist_ok=True)
        (page / "index.html").write_text("no frontend here", "utf-8")
        arguments += ["--front-end-root", str(page)]
    # At the end of the path, as a stand-in only.
    path = os.pathsep.join([str(PROJECT), str(STAND_INS)])
    log = folder / "comfyui.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, str(root / "main.py"), *arguments],
            cwd=folder, stdout=written, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    try:
        server = Server(port, folder, log)
        for _ in range(360):
            assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
            try:
                server.get("/system_stats")
                break
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
