"""What `pip install` leaves: the built wheel, unpacked where nothing of this checkout can be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nc_refiner.video import FrameWriter, probe

from .video.conftest import moving

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder holding what the wheel holds."""
    pytest.importorskip("setuptools", reason="building a wheel without a network needs setuptools here")
    work = tmp_path_factory.mktemp("wheel")
    # Built from a copy: setuptools leaves a build folder where it works.
    copied = ("nc_refiner", "integrations", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
    for name in copied:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, work / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, work / "tree" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(work), str(work / "tree")]
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=300)
    (wheel,) = work.glob("*.whl")
    target = work / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, timeout=300)
    return target


def _python(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        timeout=300,
    )


def test_an_integration_runs_from_the_wheel(installed, tmp_path):
    (tmp_path / "in").mkdir()
    with FrameWriter(tmp_path / "in" / "a_red_ball.mp4", 24) as writer:
        writer.write(moving(3, 32, 48))
    keys = {
        "input_folder": "in",
        "output_folder": "out",
        "seed_list": [1],
        "refiner": {"type": "nc", "iterations": 1, "num_inference_steps": 2, "strength": 0.5},
    }
    (tmp_path / "lavie.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    ran = _python(installed, tmp_path, "-m", "nc_refiner.integrations.lavie.refine", "--config", "lavie.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert probe(tmp_path / "out" / "a_red_ball.mp4").frames == 3


def test_the_wheel_is_what_runs_and_it_is_whole(installed, tmp_path):
    code = (
        "import nc_refiner, sys; from pathlib import Path;"
        "assert Path(nc_refiner.__file__).is_relative_to(sys.argv[1]);"
        "from nc_refiner.assets import demo_clip; assert all(path.is_file() for path in demo_clip());"
        "from nc_refiner.adapters.embedded import EmbeddedRefiner; EmbeddedRefiner();"
        "from nc_refiner.cli.main import main; sys.exit(main(['--version']))"
    )
    ran = _python(installed, tmp_path, "-c", code, str(installed))
    assert ran.returncode == 0 and ran.stdout.startswith("nc-refiner "), ran.stdout + ran.stderr
    for part in (
        "integrations/comfyui/pyproject.toml",
        "integrations/comfyui/web/docs/NoiseCalibration.md",
        "integrations/comfyui/example_workflows/ltx_two_stage.json",
        "integrations/comfyui/images/graph.png",
        "py.typed",
        "integrations/lavie/README.md",
        "experiment/reports/templates/ab.html",
        "pages/parts/look.css",
    ):
        assert (installed / "nc_refiner" / part).is_file(), part


def test_the_modular_blocks_are_importable_from_the_wheel(installed, tmp_path):
    pytest.importorskip("diffusers", reason="needs the diffusers extra")
    code = (
        "from nc_refiner.integrations.diffusers_modular import wan_video_to_video, with_calibration;"
        "print(list(wan_video_to_video().sub_blocks['denoise'].sub_blocks))"
    )
    ran = _python(installed, tmp_path, "-c", code)
    assert ran.returncode == 0 and "'calibrate', 'denoise'" in ran.stdout, ran.stdout + ran.stderr
