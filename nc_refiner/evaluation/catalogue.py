"""Every metric by name: what it is called, which way is better, what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..naming import did_you_mean

__all__ = ["DEFAULT", "METRICS", "Metric", "chosen"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: key in results and on the command line.
        label: what a table calls it.
        better: `lower`, `higher`, or `reference`: the nearer to the reference's own value (0 for a shift) the better.
        about: one sentence for people.
        digits: decimals a table shows.
        factor: what a table multiplies the value by; the label says so.
        own: whether it looks at one clip alone, so that the reference has a value too.
        temporal: whether it needs two frames.
        learned: whether it needs weights.
    """

    name: str
    label: str
    better: str
    about: str
    digits: int = 4
    factor: float = 1.0
    own: bool = False
    temporal: bool = False
    learned: bool = False

    def shown(self, value: float | None) -> str:
        """A value as a table shows it; a dash where there is none."""
        if value is None:
            return "–"
        sign = "+" if self.name.endswith("_shift") else ""
        return f"{value * self.factor:{sign}.{self.digits}f}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("mse", "MSE ×10⁻³", "lower", "mean squared error over RGB", 3, 1e3),
        Metric("mse_low", "MSE_low ×10⁻³", "lower", "mean squared error below half of Nyquist: the content", 3, 1e3),
        Metric("psnr", "PSNR, dB", "higher", "peak signal-to-noise ratio of the whole clip", 2),
        Metric("ssim", "SSIM", "higher", "structural similarity of luma, Gaussian 11×11"),
        Metric(
            "spatial_frequency", "detail", "reference", "spatial frequency of luma; noise counts as detail", own=True
        ),
        Metric("delta_e", "ΔE2000", "lower", "colour difference of 16-pixel blocks; about 1 is just visible", 2),
        Metric("saturation_shift", "saturation", "reference", "change of mean HSV saturation; above 0: more saturated"),
        Metric("clipped_shift", "clipped", "reference", "change of the share of pixels at black or white"),
        Metric(
            "flicker",
            "flicker",
            "reference",
            "mean change between neighbouring frames, motion included",
            own=True,
            temporal=True,
        ),
        Metric(
            "warping_error",
            "warping ×10⁻³",
            "reference",
            "change between neighbouring frames along the reference's motion; blur lowers it",
            3,
            1e3,
            own=True,
            temporal=True,
        ),
        Metric("lpips", "LPIPS", "lower", "perceptual distance by AlexNet", learned=True),
        Metric("clip_iqa", "CLIP-IQA", "higher", "how good a photograph CLIP finds it", own=True, learned=True),
        Metric("dover", "DOVER", "higher", "trained judge of video quality", own=True, learned=True),
    )
}
DEFAULT = tuple(name for name, metric in METRICS.items() if not metric.learned)


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The metrics named, in the catalogue's order; `all` stands for all. ValueError for a name that is none.

    >>> chosen(["ssim", "mse"])
    ('mse', 'ssim')
    """
    wanted = [name.strip().lower().replace("-", "_") for name in names]
    for name in wanted:
        if name not in METRICS and name != "all":
            hint = did_you_mean(name, METRICS, after=" ")
            raise ValueError(f"unknown metric {name!r}; {hint}there are: {', '.join(METRICS)}, or all")
    if not wanted:
        raise ValueError(f"no metric is named; there are: {', '.join(METRICS)}, or all")
    return tuple(METRICS) if "all" in wanted else tuple(name for name in METRICS if name in wanted)
