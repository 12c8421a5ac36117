"""Measures a stream of aligned blocks; nothing but numbers and the last frame is kept."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import colour, metrics, temporal
from .catalogue import FIDELITY, METRICS
from .learned import ClipIqa, Lpips
from .prepared import PreparedPair, prepared_pair

__all__ = ["FidelityMeter", "Models", "PairMeter"]

Numbers = dict[str, float | None]

BY_PAIR: dict[str, Callable[[PreparedPair], Tensor]] = {
    "mse": metrics.mse,
    "mse_low": metrics.mse_low,
    "psnr": metrics.psnr,
    "ssim": metrics.ssim,
    "delta_e": colour.delta_e,
    "saturation_shift": colour.saturation_shift,
    "clipped_shift": colour.clipped_shift,
}


@dataclass
class Models:
    """Weights of the learned metrics, loaded when they are first asked for and then kept.

    Attributes:
        clip, lpips, dover: where they lie, as the user gave it; None where nothing was given.
        device: torch device of the networks.
    """

    clip: Any = None
    lpips: Any = None
    dover: Any = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """The network behind the metric `name`; raises what its loading raises."""
        if name not in self._loaded:
            if name == "clip_iqa":
                self._loaded[name] = ClipIqa(self.clip, self.device)
            elif name == "lpips":
                self._loaded[name] = Lpips(self.lpips, self.device)
            else:
                from .dover import Dover

                self._loaded[name] = Dover(self.dover, self.device)
        return self._loaded[name]

    def require(self, names: Iterable[str]) -> None:
        """Make sure, before long work, that what the metrics `names` need is there.

        Raises:
            ImportError: a package is missing; the message says how to install it.
            FileNotFoundError, ValueError: weights are missing or not such weights.
        """
        grey = torch.full((2, 3, 16, 16), 0.5)
        for name in names:
            if name not in METRICS:
                continue
            if METRICS[name].weights:
                self.get(name)
            elif name == "delta_e":
                colour.delta_e(grey, grey)
            elif name == "warping_error":
                temporal.motion_of(grey)


class PairMeter:
    """Takes in an output and its reference block by block.

    Args:
        names: metrics of the catalogue.
        frames: frames that will come.
        height, width: of the frames.
        models: for the learned metrics.

    Attributes:
        not_measured: metric → why it has no value here.
    """

    def __init__(self, names: Sequence[str], frames: int, height: int, width: int, models: Models):
        self._names, self._frames = tuple(names), frames
        self._series: dict[str, array[float]] = {}
        self._own: dict[str, array[float]] = {}
        self._last: tuple[Tensor, Tensor] | None = None
        self._judges: dict[str, Any] = {}
        self._views: tuple[Any, Any] | None = None
        self.not_measured: dict[str, str] = {}
        for name in names:
            side = METRICS[name].min_side
            if METRICS[name].temporal and frames < 2:
                self.not_measured[name] = "it compares neighbouring frames, and the clip has one"
            elif min(height, width) < side:
                self.not_measured[name] = f"it needs frames of at least {side}×{side}, and these are {width}×{height}"
            if METRICS[name].weights:
                self._attempt(name, self._load, name, models)
        if "dover" in self._judges:
            judge = self._judges["dover"]
            self._views = judge.views(frames, height, width), judge.views(frames, height, width)

    def _load(self, name: str, models: Models) -> None:
        self._judges[name] = models.get(name)

    def _attempt(self, name: str, work: Callable[..., None], *inputs: Any) -> None:
        """What a metric lacks is no reason for the others to stop."""
        if name in self.not_measured:
            return
        try:
            work(*inputs)
        except (ImportError, FileNotFoundError) as error:
            self.not_measured[name] = str(error)

    def add(self, reference: Tensor, output: Tensor) -> None:
        """Take in the next frames, `(n, 3, H, W)` in [0, 1], both alike. ValueError for NaN or a mismatch."""
        pair = prepared_pair(reference, output)
        for name in self._names:
            if not METRICS[name].temporal:
                self._attempt(name, self._add, name, pair)
        before = self._last
        self._last = reference[-1:], output[-1:]
        if any(METRICS[name].temporal for name in self._names):
            if before is not None:
                pair = prepared_pair(torch.cat([before[0], reference]), torch.cat([before[1], output]))
            if len(pair.output.frames) > 1:
                for name in ("flicker", "warping_error"):
                    if name in self._names:
                        self._attempt(name, self._add_temporal, name, pair)

    def _add(self, name: str, pair: PreparedPair) -> None:
        reference, output = pair.reference.frames, pair.output.frames
        if name in BY_PAIR:
            self._keep(name, BY_PAIR[name](pair))
        elif name == "spatial_frequency":
            self._keep(name, metrics.spatial_frequency(pair.output), metrics.spatial_frequency(pair.reference))
        elif name == "lpips":
            self._keep(name, self._judges[name](reference, output))
        elif name == "dover":
            assert self._views is not None
            self._views[0].add(reference)
            self._views[1].add(output)
        else:
            self._keep(name, self._judges[name](output), self._judges[name](reference))

    def _add_temporal(self, name: str, pair: PreparedPair) -> None:
        if name == "flicker":
            self._keep(name, temporal.flicker(pair.output), temporal.flicker(pair.reference))
        else:
            self._keep(name, *temporal.warping_errors(pair))

    def _keep(self, name: str, values: Tensor, own: Tensor | None = None) -> None:
        self._series.setdefault(name, array("d")).extend(values.tolist())
        if own is not None:
            self._own.setdefault(name, array("d")).extend(own.tolist())

    def finish(self) -> tuple[Numbers, Numbers]:
        """The output's numbers and the reference's own: means over frames; None where `not_measured` says why."""
        found: Numbers = {}
        own: Numbers = {}
        for name in self._names:
            if name in self.not_measured:
                found[name] = None
            elif name == "dover":
                assert self._views is not None
                own[name], found[name] = (self._judges[name].score(views) for views in self._views)
            elif name == "psnr":
                # Of the mean error, not the mean of decibels: one equal frame would make that infinite.
                errors = [10 ** (-value / 10) for value in self._series[name]]
                mean = sum(errors) / len(errors)
                found[name] = -10 * math.log10(mean) if mean > 0 else None
                if mean == 0:
                    self.not_measured[name] = "the clips are equal, which makes it infinite"
            else:
                found[name] = self._mean(name, self._series[name])
                if name in self._own:
                    own[name] = self._mean(name, self._own[name])
        return found, own

    def _mean(self, name: str, values: array[float]) -> float | None:
        known = [value for value in values if not math.isnan(value)]
        if not known:
            self.not_measured[name] = "no pixel stays visible from one frame to the next"
            return None
        return math.fsum(known) / len(known)

    def per_frame(self) -> dict[str, list[float | None]]:
        """Values frame by frame; None where a frame has none: the first one's change, an infinite PSNR."""
        rows: dict[str, list[float | None]] = {}
        for name, series in self._series.items():
            missing: list[float | None] = [None] * (self._frames - len(series))
            rows[name] = missing + [value if math.isfinite(value) else None for value in series]
        return rows


class FidelityMeter:
    """A `PairMeter` of MSE, MSE_low(0.5), SSIM, PSNR and spatial frequency for streams whose length is not known."""

    def __init__(self) -> None:
        self._meter: PairMeter | None = None

    def add(self, reference: Tensor, output: Tensor) -> None:
        """Take in the next frames, `(n, 3, H, W)` in [0, 1], both alike; ValueError where they are not."""
        if self._meter is None:
            self._meter = PairMeter((*FIDELITY, "spatial_frequency"), 0, output.shape[-2], output.shape[-1], Models())
        self._meter.add(reference, output)

    def result(self) -> Numbers:
        """`mse`, `mse_low`, `ssim` (None under 11×11), `psnr` (dB of the mean MSE; None for equal clips),
        `spatial_frequency`: means over frames. ValueError where there was no frame."""
        if self._meter is None:
            raise ValueError("no frame was measured")
        return self._meter.finish()[0]
