"""What goes beyond the paper is measured by running it; the page says what the rows say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from beyond import arms, measuring
from beyond.page import page

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.experiment.offline.results import CellStore
from nc_refiner.sweeps import SweepClip


def clips() -> list[SweepClip]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for index in range(2):
        original = torch.rand(2, 3, 32, 32, generator=generator).mul(0.4).add(0.3)
        found.append(SweepClip(f"clip{index}", torch.nn.functional.avg_pool2d(original, 3, 1, 1), original))
    return found


@pytest.mark.slow
def test_a_question_is_measured_once_and_told(tmp_path: Path) -> None:
    adapter, some, cells = EmbeddedRefiner(device="cpu"), clips(), CellStore(tmp_path)
    rows: list[Any] = []
    for name in ("reuse", "steady"):
        rows += measuring.rows_of_question(adapter, some, name, arms.QUESTIONS[name], cells)
    before = adapter.evaluations
    again = list(measuring.rows_of_question(adapter, some, "reuse", arms.QUESTIONS["reuse"], cells))
    assert adapter.evaluations == before and again == [row for row in rows if row["question"] == "reuse"]
    spent = {row["label"]: row["evaluations"] for row in again}
    assert spent["N = 3"] == spent["N = 3, reuse"] + 1 == 9
    text = page(rows, some, "command")
    assert "N = 3, reuse − N = 3: MSE" in text and "matched SDEdit: flicker" in text


@pytest.mark.slow
def test_targets_are_measured_against_sdedit(tmp_path: Path) -> None:
    adapter, some = EmbeddedRefiner(device="cpu"), clips()[:1]
    rows = list(measuring.rows_of_targets(adapter, some, (0.9,), None, CellStore(tmp_path)))
    assert rows[0]["record"]["target"] == {"ssim": 0.9} and 1 <= rows[0]["cost"] <= 4
    text = page(rows * 2, some, "command")
    assert "Reached or said to be out of reach: 2 of 2" in text or "of 2; cost" in text


def row(label: str, clip: str, **values: float) -> dict[str, Any]:
    return {"refiner": "ffdnet", "question": "colour", "clip": clip, "label": label, **values}


def test_verdicts_follow_the_rows() -> None:
    values = {"mse": 1e-3, "ssim": 0.9, "psnr_to_original": 25.0, "delta_e": 1.0}
    rows = []
    for index, clip in enumerate("abc"):
        for label, clipped, ssim in (("N = 3", 0.0, 0.9), ("N = 10", 0.03, 0.8), ("N = 10, colour_safe", 0.004, 0.91)):
            more = {"saturation_shift": 0.001 * index, "clipped_shift": clipped}
            rows.append(row(label, clip, **{**values, "ssim": ssim, **more}))
        rows.append(row("N = 3, colour_safe", clip, **values, saturation_shift=0.0, clipped_shift=0.0))
    text = page(rows, clips(), "command")
    plain, safe = (line for line in text.splitlines() if line.startswith("- N = 10"))
    assert "**does not hold**" in plain and "**holds**" in safe
