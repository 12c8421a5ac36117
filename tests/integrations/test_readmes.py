"""Every command of the integrations' READMEs, run from the folder it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from nc_refiner.video import FrameWriter, probe

from ..video.conftest import moving

ROOT = Path(__file__).resolve().parents[2]
FIRST_STAGES = ("pipelines/sample.py", "(cd interpolation", "inference.py", "(cd vsr && python sample.py")
"""Commands of the hosts' own programs, which are not ours to run."""


def commands(name: str) -> list[str]:
    """The lines of the README's shell blocks that call a script of this project."""
    text = (ROOT / "integrations" / name / "README.md").read_text("utf-8")
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    own = [line for line in lines if "integrations" in line]
    assert own and all(any(word in line for word in FIRST_STAGES) for line in lines if line not in own), lines
    return own


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project, with the refiner in its configs small and quick."""
    folder = tmp_path_factory.mktemp("nc_refiner")
    for name in ("integrations", "nc_refiner"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in (folder / "configs").glob("*.yaml"):
        document = yaml.safe_load(path.read_text("utf-8"))
        refiner = document.get("refiner") if path.stem in ("lavie", "show1", "vgen_refiner") else None
        if refiner is not None:
            refiner.update(backbone={"adapter": "embedded"}, num_inference_steps=2, strength=0.5, iterations=1)
            if "size" in refiner:
                refiner["size"] = [side // 8 for side in refiner["size"]]
            path.write_text(yaml.safe_dump(document), "utf-8")
    return folder


def clip(path: Path, height: int = 32, width: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FrameWriter(path, 8) as writer:
        writer.write(moving(3, height, width))


def lavie(folder: Path) -> dict[str, tuple[int, int]]:
    (folder / "vsr").mkdir()
    clip(folder / "res" / "interpolation" / "a_camel.mp4")
    return {"res/refined/a_camel.mp4": (32, 48)}


def vgen(folder: Path) -> dict[str, tuple[int, int]]:
    (folder / "configs").mkdir()
    (folder / "data").mkdir()
    (folder / "data" / "text_list.txt").write_text("A camel.\n", "utf-8")
    keys = {"test_list_path": "data/text_list.txt", "log_dir": "workspace", "seed": 1, "embedder": {}}
    (folder / "configs" / "sr600_infer.yaml").write_text(yaml.safe_dump(keys), "utf-8")
    clip(folder / "workspace" / "text_list" / "rank_01_00_0000_A_camel.mp4")
    return {"workspace/text_list/rank_01_00_0000_A_camel_sr.mp4": (720 // 8, 1280 // 8)}


def show1(folder: Path) -> dict[str, tuple[int, int]]:
    frames = [Image.fromarray((frame.permute(1, 2, 0) * 255).byte().numpy()) for frame in moving(3, 24, 32)]
    target = folder / "outputs" / "example" / "A camel._sr1.gif"
    target.parent.mkdir(parents=True)
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=120)
    return {"outputs/example_refined/A camel..mp4": (320 // 8, 576 // 8)}


@pytest.mark.parametrize(("name", "host"), [("lavie", lavie), ("vgen", vgen), ("show1", show1)])
def test_the_readmes_commands_run_from_the_hosts_folder(name: str, host, project: Path, tmp_path: Path) -> None:
    made = host(tmp_path)
    for command in commands(name):
        line = command.replace("python ", f"{sys.executable} ", 1)
        for expected in ("wrote", "kept"):  # the second time it goes on where it was
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=tmp_path,
                env={"NC": str(project), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0 and expected in done.stdout, f"{command}\n{done.stderr}"
    for path, size in made.items():
        info = probe(tmp_path / path)
        assert (info.height, info.width) == size and info.frames == 3


def test_the_videocrafter_readmes_command_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stops at the clone that is not here; tests/hosts runs it on one."""
    from integrations.videocrafter.refine_folder import main

    text = (ROOT / "integrations" / "videocrafter" / "README.md").read_text("utf-8")
    command = text[text.index("python -m nc_refiner.integrations.videocrafter.refine_folder") :].split("```", 1)[0]
    arguments = command.replace("\\\n", " ").split()[3:]
    arguments = [str(tmp_path / "nothing") if word == "VideoCrafter" else word for word in arguments]
    assert main(arguments) == 2
    assert "no config at" in capsys.readouterr().err


def test_the_comfyui_readmes_folder_is_whole_and_loads_as_comfyui_loads_it(tmp_path: Path) -> None:
    """Copied as the README says; then as ComfyUI does: from its path, under a name of ComfyUI's own."""
    import importlib
    import importlib.util

    text = (ROOT / "integrations" / "comfyui" / "README.md").read_text("utf-8")
    (block,) = re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.S)
    install, copy = block.strip().splitlines()
    assert install == "pip install nc_refiner" and copy.startswith("cp -r $NC/integrations/comfyui ")
    (tmp_path / "custom_nodes").mkdir()
    subprocess.run(["bash", "-c", copy], cwd=tmp_path, env={"NC": str(ROOT), "PATH": "/usr/bin:/bin"}, check=True)
    folder = tmp_path / "custom_nodes" / "nc_refiner"
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        assert (folder / module.WEB_DIRECTORY / "docs").is_dir() and callable(module.comfy_entrypoint)
        calibrator = importlib.import_module(f"{name}.calibrator")
        assert Path(calibrator.__file__ or "").is_relative_to(folder)
    finally:
        for loaded in [one for one in sys.modules if one.startswith(name)]:
            del sys.modules[loaded]
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link.startswith("https://") or (folder / link).is_file(), link


@pytest.mark.parametrize("name", ["show1.yaml", "vgen_refiner.yaml"])
def test_refiners_in_place_of_a_super_resolution_stage_have_its_size(name: str) -> None:
    from nc_refiner.config.document import read_document
    from nc_refiner.config.refiner import refiner_options

    document = read_document(ROOT / "configs" / name)
    assert refiner_options(document, document.data["refiner"]).size in ([320, 576], [720, 1280])


def test_frame_rates_to_condition_on() -> None:
    from nc_refiner.adapters.videocrafter import VideoCrafterAdapter

    from ..adapters.videocrafter_model import SmallLatentDiffusion

    assert VideoCrafterAdapter(SmallLatentDiffusion()).fps == 28
    image = torch.rand((3, 16, 16))
    assert VideoCrafterAdapter(SmallLatentDiffusion(image=True), image=image).fps == 8
    assert VideoCrafterAdapter(SmallLatentDiffusion(), fps=12).fps == 12
