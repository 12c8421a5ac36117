"""The house: arrows point down (import-linter's contracts in pyproject.toml), imports stay light, the map is true."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nc_refiner"
CORE = ("calibration", "calibration_options", "correction", "frequency", "holding", "mask", "noise_level")
HOSTS = {"diffusers", "modelscope", "lvdm", "comfy", "transformers", "xformers"}
FILES = sorted(PACKAGE.rglob("*.py"))
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]


def foreign(path: Path) -> set[str]:
    """Top-level names of other packages that a file imports at module level."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_contracts_of_the_house_hold():
    ran = subprocess.run(LINT, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("nc_refiner/calibration.py", "import nc_refiner.files", "The core knows no host"),
        ("nc_refiner/refining/plan.py", "import nc_refiner.cascade.runner", "Arrows between the rooms point down"),
        ("nc_refiner/video/info.py", "import nc_refiner.video.probe", "No circle between modules"),
        ("nc_refiner/adapters/embedded/model.py", "import nc_refiner.adapters.diffusers", "never imports another"),
        ("nc_refiner/experiment/statistics/power.py", "import yaml", "Statistics know neither"),
        (
            "nc_refiner/experiment/store/schema.py",
            "import nc_refiner.experiment.live.switch",
            "The store knows nothing",
        ),
        ("nc_refiner/refiner.py", "import integrations.lavie", "Nothing in the package imports"),
        ("nc_refiner/new_room.py", "", "Arrows between the rooms point down"),
    ],
)
def test_a_wrong_import_breaks_a_contract(tmp_path, file, line, contract):
    for name in ("nc_refiner", "integrations", "pyproject.toml"):
        source = ROOT / name
        skip = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.mp4")
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=skip)
        else:
            shutil.copy(source, tmp_path / name)
    target = tmp_path / file
    target.write_text((target.read_text("utf-8") if target.exists() else "") + f"\n{line}\n", encoding="utf-8")
    ran = subprocess.run(LINT, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    told = ran.stdout + ran.stderr
    assert ran.returncode != 0
    assert re.search(f"{contract}.*BROKEN", told) or "Missing" in told or "undeclared" in told.lower(), told


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_torch_alone(name):
    assert foreign(PACKAGE / f"{name}.py") - set(sys.stdlib_module_names) <= {"torch"}


def test_the_core_stays_one_small_idea():
    lines = (PACKAGE / "calibration.py").read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) < 120


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_hosts_are_imported_lazily(path):
    assert not foreign(path) & HOSTS


def test_import_loads_no_host_and_no_codec():
    code = (
        "import sys, torch; before = set(sys.modules); import nc_refiner, nc_refiner.adapters, nc_refiner.video; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new & {'diffusers', 'modelscope', 'transformers', 'xformers', 'av', 'decord', 'PIL', "
        "'torchmetrics', 'typer', 'rich', 'scipy', 'safetensors', 'matplotlib'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_every_path_on_the_map_exists():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|md|toml|yaml))`", text))
    assert len(paths) > 40
    missing = [path for path in sorted(paths) if not ((ROOT / path).exists() or (PACKAGE / path).exists())]
    assert not [path for path in missing if "HOST" not in path], missing


def test_every_room_is_on_the_map():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")]
    rooms = [room for room in rooms if room != "." and "migrations" not in room]
    assert not [room for room in rooms if f"`{room}/`" not in text]
