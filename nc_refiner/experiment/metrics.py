"""The metrics an experiment knows: which way is better, and within which bounds they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["METRICS", "Better", "Metric", "metric_named"]

Better = Literal["lower", "higher", "neither"]
TO_ORIGINAL = "_to_original"


@dataclass(frozen=True)
class Metric:
    """A metric as the analysis sees it.

    Attributes:
        name: as in `Observation.metric`.
        label: for people.
        better: the direction in which it is better; `neither` where a change is neither good nor bad in itself.
        rate: whether each value is 0 or 1, or a mean of such values (analysed with bounds that hold for rare events).
    """

    name: str
    label: str
    better: Better
    rate: bool = False

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 for neither."""
        return {"higher": 1, "lower": -1, "neither": 0}[self.better]


METRICS = {
    metric.name: metric
    for metric in (
        Metric("mse", "MSE to the input", "lower"),
        Metric("mse_low", "MSE below half of Nyquist", "lower"),
        Metric("ssim", "SSIM to the input", "higher"),
        Metric("psnr", "PSNR to the input, dB", "higher"),
        Metric("spatial_frequency", "spatial frequency", "neither"),
        Metric("delta_e", "colour difference, ΔE2000", "lower"),
        Metric("saturation_shift", "change of saturation", "neither"),
        Metric("clipped_shift", "change of the share of clipped pixels", "neither"),
        Metric("flicker", "change between frames", "neither"),
        Metric("warping_error", "change between frames along the motion", "neither"),
        Metric("lpips", "LPIPS to the input", "lower"),
        Metric("clip_iqa", "CLIP-IQA", "higher"),
        Metric("dover", "DOVER", "higher"),
        Metric("content_loss", "content loss", "lower"),
        Metric("seconds", "seconds", "lower"),
        Metric("evaluations", "model evaluations", "lower"),
        Metric("peak_memory_bytes", "peak memory, bytes", "lower"),
        Metric("error", "error rate", "lower", rate=True),
        Metric("fallback", "rate of falling back", "lower", rate=True),
    )
}


def metric_named(name: str, better: Better | None = None) -> Metric:
    """The metric called `name`; one that is not known is taken as it is, better in neither direction.

    Args:
        name: a key of `METRICS`, one of them with `_to_original` (measured against the undegraded original), or any.
        better: overrides the direction.

    >>> metric_named("psnr_to_original").better, metric_named("their own").better
    ('higher', 'neither')
    """
    base = METRICS.get(name.removesuffix(TO_ORIGINAL))
    if base is None:
        found = Metric(name, name.replace("_", " "), "neither")
    elif name.endswith(TO_ORIGINAL):
        found = replace(base, name=name, label=base.label.replace("to the input", "").strip() + " to the original")
        found = replace(found, label=found.label.replace(" ,", ",").replace("PSNR, dB to", "PSNR, dB, to"))
    else:
        found = base
    return found if better is None else replace(found, better=better)
