"""What is measured of one output."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..evaluation import FidelityMeter, catalogue, delta_e, motion_of
from ..evaluation.measure import BLOCK_FRAMES
from ..evaluation.meters import Models, PairMeter
from ..evaluation.temporal import MIN_FLOW_SIDE
from .metrics import TO_ORIGINAL

__all__ = ["EVALUATED", "FIDELITY", "learned", "measure", "require"]

FIDELITY = ("mse", "mse_low", "ssim", "psnr")
EVALUATED = tuple(name for name in catalogue.METRICS if name not in {*FIDELITY, "spatial_frequency"})
"""Metrics of `nc_refiner.evaluation` beyond those that every experiment measures."""
WEIGHTS = {"lpips": "lpips", "clip_iqa": "clip", "dover": "dover"}
MIN_SIDE = {"warping_error": MIN_FLOW_SIDE}


def learned(wanted: Iterable[str]) -> dict[str, str]:
    """Those of `wanted` that need weights → what `Models` calls them.

    >>> learned(["mse", "clip_iqa"])
    {'clip_iqa': 'clip'}
    """
    return {name: WEIGHTS[name] for name in wanted if name in WEIGHTS}


def require(wanted: Iterable[str], models: Models) -> None:
    """Make sure, before any output is made, that what `wanted` needs is there.

    Raises:
        ImportError: a package is missing; the message says how to install it.
        FileNotFoundError, ValueError: weights are missing or not such weights.
    """
    wanted = set(wanted)
    grey = torch.full((2, 3, MIN_FLOW_SIDE, MIN_FLOW_SIDE), 0.5)
    if "delta_e" in wanted:
        delta_e(grey, grey)
    if "warping_error" in wanted:
        motion_of(grey)
    for name in learned(wanted):
        models.get(name)


def measure(
    wanted: Iterable[str],
    reference: Tensor,
    output: Tensor,
    original: Tensor | None,
    receipt: dict[str, Any],
    models: Models | None = None,
) -> dict[str, float]:
    """Metric → value; what cannot be measured (SSIM of tiny frames, PSNR of equal clips) is left out.

    Args:
        wanted: names, as in the experiment's file; `content_loss` is not measured here.
        reference, output, original: `(F, 3, H, W)` in [0, 1]; the fidelity metrics are taken to the reference and,
            with `_to_original` in their name, to the original.
        receipt: of the run: `seconds` (without the encode, which arms share) and `evaluations` come from it.
        models: weights of the learned metrics.
    """
    wanted = set(wanted)
    meter = FidelityMeter()
    meter.add(reference, output)
    found: dict[str, float | None] = dict(meter.result())
    if original is not None:
        meter = FidelityMeter()
        meter.add(original, output)
        found |= {name + TO_ORIGINAL: value for name, value in meter.result().items() if name in FIDELITY}
        wanted |= {name + TO_ORIGINAL for name in FIDELITY if name in wanted}
    found |= _evaluated(wanted, reference, output, models or Models())
    found["seconds"] = sum(value for stage, value in receipt["seconds"].items() if stage != "encode")
    found["evaluations"] = float(sum(receipt["evaluations"].values()))
    return {
        name: value for name, value in found.items() if name in wanted and value is not None and math.isfinite(value)
    }


def _evaluated(wanted: set[str], reference: Tensor, output: Tensor, models: Models) -> dict[str, float | None]:
    frames, _, height, width = output.shape
    names = tuple(name for name in EVALUATED if name in wanted and min(height, width) >= MIN_SIDE.get(name, 1))
    if not names:
        return {}
    meter = PairMeter(names, frames, height, width, models)
    for before, after in zip(reference.split(BLOCK_FRAMES), output.split(BLOCK_FRAMES), strict=True):
        meter.add(before, after)
    return meter.finish()[0]
