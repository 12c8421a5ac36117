"""What is measured of one output."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ..evaluation import FidelityMeter
from .metrics import TO_ORIGINAL

__all__ = ["measure"]

FIDELITY = ("mse", "mse_low", "ssim", "psnr")


def measure(
    wanted: Iterable[str], reference: Tensor, output: Tensor, original: Tensor | None, receipt: dict[str, Any]
) -> dict[str, float]:
    """Metric → value; what cannot be measured (SSIM of tiny frames, PSNR of equal clips) is left out.

    Args:
        wanted: names, as in the experiment's file; `content_loss` is not measured here.
        reference, output, original: `(F, 3, H, W)` in [0, 1]; the fidelity metrics are taken to the reference and,
            with `_to_original` in their name, to the original.
        receipt: of the run: `seconds` (without the encode, which arms share) and `evaluations` come from it.
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
    found["seconds"] = sum(value for stage, value in receipt["seconds"].items() if stage != "encode")
    found["evaluations"] = float(sum(receipt["evaluations"].values()))
    return {
        name: value for name, value in found.items() if name in wanted and value is not None and math.isfinite(value)
    }
