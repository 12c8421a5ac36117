"""Small cascades on the embedded model, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nc_refiner.cascade import CascadeConfig, CascadeRunner, load_config
from nc_refiner.cascade.outcome import Summary

SMALL = """version: 1
prompt: [a camel walking in the desert, clouds]
seed: 5
base: {type: embedded, frames: 3, height: 32, width: 48, num_inference_steps: 4}
interpolation: {type: blend, factor: 2}
refiner: {type: nc, iterations: 1, num_inference_steps: 4, strength: 0.5}
"""
KINDS = ("base", "interpolation", "refiner")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A config of two prompts that runs in a second or two."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def config(path: Path, *overrides: str) -> CascadeConfig:
    return load_config(path, list(overrides))


def run(path: Path, output: Path, *overrides: str, **options: Any) -> Summary:
    return CascadeRunner(config(path, *overrides), output=output, **options).run()


def clips(output: Path) -> dict[str, bytes]:
    """Every video under `output`, and the final ones."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.m[pk][4v]"))}


def record(folder: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{stage}.done.json").read_text(encoding="utf-8"))
    return found


def folders(output: Path) -> list[Path]:
    return sorted(path for path in output.iterdir() if path.is_dir())
