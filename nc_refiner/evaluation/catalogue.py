"""Every metric by name: what it is called, which way is better, what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ..naming import did_you_mean

__all__ = ["DEFAULT", "FIDELITY", "METRICS", "RUN_METRICS", "TO_ORIGINAL", "Better", "Metric", "chosen", "metric_named"]

Better = Literal["lower", "higher", "reference", "neither"]
TO_ORIGINAL = "_to_original"
"""Ends the name of a fidelity metric that is taken to the undegraded original instead of the input."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: key in results and on the command line.
        label: what a table calls it.
        better: `lower`, `higher`, `reference`: the nearer to the reference's own value (0 for a shift) the better, or
            `neither`: a change is neither good nor bad in itself.
        about: one sentence for people.
        digits: decimals a table shows.
        factor: what a table multiplies the value by; the label says so.
        own: whether it looks at one clip alone, so that the reference has a value too.
        temporal: whether it needs two frames.
        weights: the field of `Models` that says where its weights lie; empty where it needs none.
        min_side: the smallest height and width of a frame that it can be taken of, in pixels.
        rate: whether each value is 0 or 1, or a mean of such values (analysed with bounds that hold for rare events).
        title: what a sentence calls it; default: the label.
    """

    name: str
    label: str
    better: Better
    about: str = ""
    digits: int = 4
    factor: float = 1.0
    own: bool = False
    temporal: bool = False
    weights: str = ""
    min_side: int = 1
    rate: bool = False
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.label)

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 where the value alone does not say."""
        return {"higher": 1, "lower": -1}.get(self.better, 0)

    def shown(self, value: float | None, signed: bool = False) -> str:
        """A value as a table shows it; a dash where there is none."""
        if value is None:
            return "–"
        sign = "+" if signed or self.name.endswith("_shift") else ""
        return f"{value * self.factor:{sign}.{self.digits}f}"


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _by_name(
    Metric("mse", "MSE ×10⁻³", "lower", "mean squared error over RGB", 3, 1e3, title="MSE to the input"),
    Metric(
        "mse_low",
        "MSE_low ×10⁻³",
        "lower",
        "mean squared error below half of Nyquist: the content",
        3,
        1e3,
        title="MSE below half of Nyquist",
    ),
    Metric(
        "psnr",
        "PSNR, dB",
        "higher",
        "peak signal-to-noise ratio of the whole clip",
        2,
        title="PSNR to the input, dB",
    ),
    Metric(
        "ssim",
        "SSIM",
        "higher",
        "structural similarity of luma, Gaussian 11×11",
        min_side=11,
        title="SSIM to the input",
    ),
    Metric(
        "spatial_frequency",
        "detail",
        "reference",
        "spatial frequency of luma; noise counts as detail",
        own=True,
        title="spatial frequency",
    ),
    Metric(
        "delta_e",
        "ΔE2000",
        "lower",
        "colour difference of 16-pixel blocks; about 1 is just visible",
        2,
        title="colour difference, ΔE2000",
    ),
    Metric(
        "saturation_shift",
        "saturation",
        "reference",
        "change of mean HSV saturation; above 0: more saturated",
        title="change of saturation",
    ),
    Metric(
        "clipped_shift",
        "clipped",
        "reference",
        "change of the share of pixels at black or white",
        title="change of the share of clipped pixels",
    ),
    Metric(
        "flicker",
        "flicker",
        "reference",
        "mean change between neighbouring frames, motion included",
        own=True,
        temporal=True,
        title="change between frames",
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
        min_side=16,
        title="change between frames along the motion",
    ),
    Metric("lpips", "LPIPS", "lower", "perceptual distance by AlexNet", weights="lpips", title="LPIPS to the input"),
    Metric("clip_iqa", "CLIP-IQA", "higher", "how good a photograph CLIP finds it", own=True, weights="clip"),
    Metric("dover", "DOVER", "higher", "trained judge of video quality", own=True, weights="dover"),
)
"""Measured from frames."""
RUN_METRICS = _by_name(
    Metric("content_loss", "content loss", "lower"),
    Metric("output_loss", "content loss of the output", "lower"),
    Metric("seconds", "seconds", "lower"),
    Metric("evaluations", "model evaluations", "lower"),
    Metric("peak_memory_bytes", "peak memory, bytes", "lower"),
    Metric("error", "error rate", "lower", rate=True),
    Metric("fallback", "rate of falling back", "lower", rate=True),
)
"""Known of a run, not of its frames."""
DEFAULT = tuple(name for name, metric in METRICS.items() if not metric.weights)
FIDELITY = ("mse", "mse_low", "ssim", "psnr")
"""Those that may also be taken to an original, with `TO_ORIGINAL` behind their name."""


def metric_named(name: str, better: Better | None = None) -> Metric:
    """The metric called `name`; one that is not known is taken as it is, better in neither direction.

    Args:
        name: a key of `METRICS` or `RUN_METRICS`, one of them with `TO_ORIGINAL`, or any.
        better: overrides the direction.

    >>> metric_named("psnr_to_original").better, metric_named("their own").better
    ('higher', 'neither')
    """
    base = name.removesuffix(TO_ORIGINAL)
    found = METRICS.get(base) or RUN_METRICS.get(base)
    if found is None:
        found = Metric(name, name.replace("_", " "), "neither")
    elif base != name:
        head, _, tail = found.title.partition(" to the input")
        title = f"{head} to the original{tail}"
        found = replace(found, name=name, label=title, title=title)
    return found if better is None else replace(found, better=better)


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
