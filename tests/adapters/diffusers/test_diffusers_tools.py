"""The table of pipelines is fresh, and the benchmark's dry run passes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import diffusers
import pytest

from nc_refiner.adapters.diffusers.support import REFUSED

ROOT = Path(__file__).resolve().parents[3]


def tool(name: str) -> ModuleType:
    if str(ROOT / "tools") not in sys.path:  # as running the script does
        sys.path.insert(0, str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(diffusers.__version__ != "0.42.1", reason="the table is written for diffusers 0.42.1")
def test_the_table_is_fresh() -> None:
    assert tool("diffusers_table").main(["--check"]) == 0


def test_a_stale_table_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tool("diffusers_table")
    table.DOCUMENT = tmp_path / "docs" / "table.md"
    assert table.main(["--check"]) == 1
    assert "python tools/diffusers_table.py" in capsys.readouterr().err
    assert table.main([]) == 0 and table.main(["--check"]) == 0
    rows = [line.split("|")[1:3] for line in table.DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    states = {name.strip(): state.strip() for name, state in rows}
    assert states["StableDiffusionXLImg2ImgPipeline"] == "tested"
    assert {states[name] for name in REFUSED if name in states} == {"refused"}


def test_the_benchmark_runs_dry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert tool("benchmark_diffusers").main(["--dry-run", "--repeats", "1", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    for model, steps, per_step in (("sdxl-refiner", 3, 1), ("wan", 3, 2)):
        found = {row["run"]: row["evaluations"] for row in rows if row["model"] == model}
        assert found == {
            "stock": steps * per_step,
            **{f"N={n}": (steps + n - 1) * per_step for n in (1, 2, 3)},
        }
    assert capsys.readouterr().out.count("\n") == 8


def test_the_benchmark_wants_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = tool("benchmark_diffusers")
    import torch

    monkeypatch.setattr(benchmark, "default_device", lambda: torch.device("cpu"))
    assert benchmark.main([]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert "benchmark_diffusers" not in sys.modules
