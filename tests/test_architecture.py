"""Dependencies point inward, imports stay light, and nothing at the top is heavier than it must be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nc_refiner"

CORE = {"calibration", "frequency", "noise_level"}
# What each room may import of ours; a room that is not named may import anything below `cli`.
ALLOWED = {
    "frequency": set(),
    "noise_level": set(),
    "calibration": {"frequency", "noise_level"},
    "windows": set(),
    "clip": set(),
    "_version": set(),
    "naming": set(),
    "assets": set(),
    "receipt": {"_version"},
    "evaluation": {"_version", "frequency", "naming", "video"},
    "video": {"clip"},
    "baselines": {
        *("adapters.base", "calibration", "clip", "fit", "frequency", "noise_level"),
        *("receipt", "refinement", "refiner", "windows"),
    },
    "fit": {"adapters.base"},
    "cascade": {
        *("_version", "adapters", "calibration", "clip", "experiment", "naming"),
        *("refinement", "refiner", "video", "windows"),
    },
}
HOSTS = {"diffusers", "modelscope", "lvdm", "comfy", "transformers", "xformers"}


def ours(path: Path) -> list[str]:
    """Modules of this package that a file imports, relative to the package."""
    here = ("nc_refiner", *path.relative_to(PACKAGE).with_suffix("").parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [module] if node.module else [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [name.removeprefix("nc_refiner.") for name in names if name.startswith("nc_refiner.")]
    return found


def foreign(path: Path) -> set[str]:
    """Top-level names of other packages that a file imports at module level."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_inward(path):
    imported = ours(path)
    if room(path) in ALLOWED:
        allowed = ALLOWED[room(path)] | {room(path)}
        strays = [name for name in imported if not any(name == a or name.startswith(a + ".") for a in allowed)]
        assert not strays, f"{room(path)} may import only {sorted(allowed)}"
    if room(path) not in ("cli", "__main__"):
        assert not [name for name in imported if name.split(".")[0] == "cli"], "only the command line knows itself"
    if room(path) == "adapters":
        inside = path.relative_to(PACKAGE).parts
        neighbours = {name.split(".")[1] for name in imported if name.startswith("adapters.") and name.count(".") >= 1}
        if len(inside) > 2 or inside[1].removesuffix(".py") in {"modelscope", "videocrafter"}:
            own = inside[1].removesuffix(".py")
            assert neighbours <= {"base", "registry", "runtime", own}, "an adapter never imports another"
    assert not [name for name in imported if name.startswith("integrations")]


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_imports_torch_alone(name):
    standard = set(sys.stdlib_module_names)
    assert foreign(PACKAGE / f"{name}.py") - standard <= {"torch"}


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
