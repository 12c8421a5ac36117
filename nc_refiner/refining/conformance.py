"""Checks that any adapter must pass, ours or a third party's. Needs no test framework:

>>> from nc_refiner.adapters import conformance, create
>>> report = conformance.check(create("embedded"))
>>> report.passed
True
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..adapters.base import RefinerAdapter
from .conformance_beyond import BeyondBench
from .conformance_checks import Fault

__all__ = ["ConformanceError", "ConformanceReport", "check"]


class ConformanceError(AssertionError):
    """Raised by `ConformanceReport.raise_for_failures`; the message lists every failed check and why."""


@dataclass
class ConformanceReport:
    """Outcome of `check`: `results` maps each check to None (passed) or the reason it failed."""

    adapter: str
    results: dict[str, str | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.failures

    @property
    def failures(self) -> dict[str, str]:
        """The failed checks with their reasons."""
        return {name: reason for name, reason in self.results.items() if reason is not None}

    def raise_for_failures(self) -> None:
        """Raise `ConformanceError` naming every failure; do nothing where all passed."""
        if self.failures:
            lines = "; ".join(f"{name}: {reason}" for name, reason in self.failures.items())
            raise ConformanceError(f"{self.adapter} does not conform. {lines}")


def check(
    adapter: RefinerAdapter,
    frames: Tensor | None = None,
    *,
    num_inference_steps: int = 8,
    strength: float = 0.5,
    trained: bool = False,
    lossless: bool | None = None,
    tolerance: float = 1e-5,
    only: Collection[str] | None = None,
) -> ConformanceReport:
    """Run every check on `adapter` with a small clip.

    Args:
        adapter: the adapter; it must be usable as it is (device, weights).
        frames: `(F, 3, H, W)` in [0, 1] that already fits the adapter's requirements; made up where None. With
            `trained`, pass a piece of real video: a model need not know made-up pictures.
        num_inference_steps, strength: a short schedule with at least two steps.
        trained: also require that the estimate at a moderate noise level is near the reference, which only a
            trained model can meet; it is what tells a wrong x̂₀ formula or a wrong α from a right one.
        lossless: whether decode(encode(x)) must be x to 1e-5; None asks for 0.2 only (an
            untrained VAE: pass False to skip this, and the check of the layout).
        tolerance: relative error allowed where equality is up to rounding.
        only: names of the checks to run; None is every one.

    Returns:
        A report; it never raises for a failing adapter.
    """
    frames = _sample_frames(adapter) if frames is None else frames
    bench = BeyondBench(adapter, frames, num_inference_steps, strength, tolerance)
    checks: dict[str, Callable[[], None]] = {
        "name and description": bench.name_and_description,
        "timesteps": bench.timesteps,
        "layout": bench.layout,
        "decoded range": bench.decoded_range,
        "evaluations": bench.evaluations,
        "no gradients": bench.no_gradients,
        "random state": bench.random_state,
        "state restored": bench.state_restored,
        "identity": bench.identity,
        "fixed point": bench.fixed_point,
        "reuse": bench.reuse,
        "masks": bench.masks,
        "options beyond the paper": bench.options,
    }
    if adapter.can_hold:
        checks["hold"] = bench.holding
    if not adapter.owns_trajectory:
        checks["noise level matches step"] = bench.step_consistency
    if adapter.requirements.latent_windows:
        checks["latent windows"] = bench.latent_windows
    if lossless is not False:
        checks["round trip"] = lambda: bench.round_trip(1e-5 if lossless else 0.2)
        checks["cutoff is a spatial frequency"] = bench.spatial_frequency
    if trained:
        checks["estimate"] = bench.estimate
    report = ConformanceReport(adapter.name or type(adapter).__name__)
    for name, run in checks.items():
        if only is not None and name not in only:
            continue
        try:
            run()
            report.results[name] = None
        except Fault as failure:
            report.results[name] = str(failure)
        except Exception as error:  # an adapter may fail in any way; the report must name the check it failed in
            report.results[name] = f"raised {type(error).__name__}: {error}"
    return report


def _sample_frames(adapter: RefinerAdapter) -> Tensor:
    """A smooth moving pattern with a little texture, the smallest that fits and is at least 64×64."""
    needs = adapter.requirements
    count = max(4, needs.min_frames)
    count = count if needs.max_frames is None else min(count, needs.max_frames)
    sizes = zip(needs.size_multiple, needs.size_offset, strict=True)
    least = [offset + multiple * -(-(64 - offset) // multiple) for multiple, offset in sizes]
    height, width = (max(side, small) for side, small in zip(least, needs.min_size, strict=True))
    if needs.max_size is not None:
        height, width = min(height, needs.max_size[0]), min(width, needs.max_size[1])
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    time = torch.arange(count)[:, None, None] / 8
    planes = [0.5 + 0.4 * torch.sin(6 * x + 4 * y * k + time * (k + 1)) for k in range(3)]
    texture = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(0))
    return (torch.stack(planes, dim=1) + 0.04 * (texture - 0.5)).clamp(0, 1)
