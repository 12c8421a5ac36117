"""The training loop: resumable, budgeted in minutes of training, in whatever precision is fastest here."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from nc_refiner.adapters.embedded.model import LOWEST_ALPHA, PIXEL_GAIN, DenoiserConfig, VideoDenoiser
from nc_refiner.adapters.embedded.weights import load_network

from .degrade import soften
from .ffdnet import load_ffdnet
from .sampling import ClipSampler, validation_clips
from .speed import fastest, prepare

log = logging.getLogger(__name__)

VALIDATION_SIGMAS = (10, 25, 50, 75)
"""Of 255, on pixels."""
NOISE_FLOOR = 8 / 255
"""Keeps the weight of nearly clean samples finite; without it a gentle start is ruined within 50 steps."""


@dataclass
class TrainingConfig:
    """Everything that decides a training run.

    Attributes:
        minutes: training time in all, over every resume; the learning rates fall to zero at its end.
        crop, frames, batch: shape of a batch of clips, in pixels and frames.
        trunk_rate, mixing_rate, helper_rate: AdamW's peak rates of the three parts of the network.
        warmup: steps over which the rates rise from zero, of every run and after every fresh optimiser.
        decay_from: share of the budget after which the rates fall (cosine).
        ema_steps: time constant of the weight average that is shipped.
        sigmas: noise levels (of 255, on pixels) that `focus` of the samples are spread over evenly.
        focus: their share; the rest lies in the noise phases from `tail` to 1.
        stills: share of batches given as single frames, so that pictures are learnt too.
        soft: share of the samples noisier than `soft_above` (of 255, on pixels) that are shown softened, their target
            sharp: what the first estimates of a refinement see is a noisy *input*, not a noisy original.
        weights: shares of film, other video, photographs.
        seed: seeds crops, noise and initial weights.
    """

    minutes: float = 100.0
    crop: int = 80
    frames: int = 6
    batch: int = 4
    trunk_rate: float = 1.5e-5
    mixing_rate: float = 5e-5
    helper_rate: float = 1.5e-4
    warmup: int = 300
    decay_from: float = 0.3
    ema_steps: int = 400
    sigmas: tuple[float, float] = (2.0, 90.0)
    focus: float = 0.9
    tail: float = 0.5
    stills: float = 0.05
    soft: float = 0.0
    soft_above: float = 30.0
    weights: tuple[float, float, float] = (0.35, 0.25, 0.4)
    seed: int = 0
    network: DenoiserConfig = field(default_factory=DenoiserConfig)


def to_latents(clips: Tensor) -> Tensor:
    """Pixels in [0, 1] → latents, as the adapter's `encode`."""
    return clips / PIXEL_GAIN - 0.5 / PIXEL_GAIN


def phase_of(sigma: Tensor) -> Tensor:
    """The noise phase at which latents divided by α carry `sigma` (pixels in [0, 1])."""
    return torch.atan(sigma / PIXEL_GAIN) * (2 / math.pi)


def fits(one: DenoiserConfig, other: DenoiserConfig) -> bool:
    """Whether weights of one are weights of the other; the gate holds none, and may differ."""
    return replace(one, gate=other.gate) == other


def initial_network(config: DenoiserConfig, start: Path | None) -> VideoDenoiser:
    """A fresh network, or one that starts from shipped weights (.safetensors) or FFDNet's (.pth)."""
    if start is None:
        return VideoDenoiser(config)
    if start.suffix == ".safetensors":
        network = load_network(start)
        if not fits(network.config, config):
            raise ValueError(f"{start} holds a network of shape {network.config}, this run wants {config}")
        network.config = config
        return network.train().requires_grad_(True)
    return load_ffdnet(start, config)


class Trainer:
    """Owns network, average, optimiser and random state, and can be put down and picked up at any step.

    Args:
        cache: folder written by `sources.prepare`.
        folder: the run's folder; a checkpoint in it is resumed, and `start` is then not read.
        start: weights to begin from, see `initial_network`.
        precision, compiled: see `speed.fastest`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        cache: Path,
        folder: Path,
        device: str = "cpu",
        start: Path | None = None,
        precision: str = "auto",
        compiled: bool = False,
    ):
        self.config, self.folder, self.device = config, folder, torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.checkpoint = folder / "checkpoint.pt"
        resumed = self.checkpoint.exists()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.network = initial_network(config.network, None if resumed else start).to(self.device)
            self.average = VideoDenoiser(config.network).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(self._groups(), betas=(0.9, 0.99))
        self.start = start.name if start is not None else "random weights"
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, object]] = []
        self.sampler = ClipSampler(cache, config.frames, config.crop, config.seed, config.weights)
        self.validation = to_latents(validation_clips(cache, 96, config.frames)).to(self.device)
        if resumed:
            self._load()
        sample = torch.zeros((config.batch, 3, config.frames, config.crop, config.crop), device=self.device)
        self.mode = fastest(self.network, sample, precision, compiled)
        self.forward = prepare(self.network, self.mode)
        if not resumed:
            self.history.append(self.validate())

    def _groups(self) -> list[dict[str, object]]:
        """The three parts, each with its peak rate; matrices decayed, biases and gains not."""
        parts: dict[tuple[float, bool], list[Tensor]] = {}
        rates = {"trunk": self.config.trunk_rate, "mix": self.config.mixing_rate, "helper": self.config.helper_rate}
        for name, parameter in self.network.named_parameters():
            # What the helper adds to the trunk changes it as the mixing does, and at the same pace.
            rate = self.config.mixing_rate if name.startswith("helper.out.") else rates[name.split(".")[0]]
            parts.setdefault((rate, parameter.ndim > 1), []).append(parameter)
        return [
            {"params": found, "lr": rate, "peak": rate, "weight_decay": 0.01 if decayed else 0.0}
            for (rate, decayed), found in parts.items()
        ]

    @property
    def progress(self) -> float:
        """Share of the training budget that is spent."""
        return self.seconds / (60 * self.config.minutes)

    def _rate(self) -> float:
        """What the peak rates are multiplied by now."""
        warm = min(1.0, (self.step + 1) / self.config.warmup)
        start = self.config.decay_from
        done = min(1.0, max(0.0, (self.progress - start) / (1 - start)))
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def _phases(self, count: int) -> Tensor:
        draws = torch.rand(count, generator=self.generator)
        low, high = (value / 255 for value in self.config.sigmas)
        focused = phase_of(low + (high - low) * draws)
        tail = self.config.tail + (1 - self.config.tail) * draws
        pick = torch.rand(count, generator=self.generator) < self.config.focus
        return torch.where(pick, focused, tail).to(self.device)

    def _error(
        self,
        network: Callable[..., Tensor],
        latents: Tensor,
        noise: Tensor,
        phase: Tensor,
        shown: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of x̂₀ per sample, in pixels of [0, 1]; `shown` is what is noised, default `latents`."""
        angle = (phase * math.pi / 2)[:, None, None, None, None]
        noisy = angle.cos() * (latents if shown is None else shown) + angle.sin() * noise
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mode.bfloat16):
            clean = network(noisy, phase)
        return (clean.float() - latents).square().mean(dim=(1, 2, 3, 4)) * PIXEL_GAIN**2

    def _loss(self, latents: Tensor) -> Tensor:
        if float(torch.rand((), generator=self.generator)) < self.config.stills:
            latents = latents.transpose(1, 2).flatten(0, 1)[:, :, None]
        noise = torch.randn(latents.shape, generator=self.generator).to(self.device)
        phase = self._phases(len(latents))
        angle = phase * (math.pi / 2)
        sigma = PIXEL_GAIN * angle.sin() / angle.cos().clamp(min=LOWEST_ALPHA)
        shown = self._softened(latents, sigma)
        error = self._error(self.forward, latents, noise, phase, shown)
        return (error / (sigma.square() + NOISE_FLOOR**2)).mean()

    def _softened(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """`latents`, some of the noisier samples softened."""
        if not self.config.soft:
            return latents
        pick = torch.rand(len(latents), generator=self.generator) < self.config.soft
        factors = 1.3 + 1.0 * torch.rand(len(latents), generator=self.generator)
        blurs = 0.3 + 0.5 * torch.rand(len(latents), generator=self.generator)
        pick &= sigma.cpu() > self.config.soft_above / 255
        if not pick.any():
            return latents
        shown = latents.clone()
        for index in pick.nonzero().flatten().tolist():
            frames = latents[index].transpose(0, 1)
            shown[index] = soften(frames, float(factors[index]), float(blurs[index])).transpose(0, 1)
        return shown

    def train(
        self,
        save_every: float = 120.0,
        report_every: int = 50,
        validate_every: int = 400,
        piece: float = math.inf,
    ) -> None:
        """Train until the budget is spent, or for `piece` seconds of it, saving now and then."""
        begun = last_save = clock = time.monotonic()
        running: list[float] = []
        for latents in self._batches():
            rate = self._rate()
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["peak"]
            loss = self._loss(latents)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            self._update_average()
            running.append(float(loss.detach()))
            now = time.monotonic()
            self.seconds, clock = self.seconds + now - clock, now
            if self.step % report_every == 0:
                mean = sum(running) / len(running)
                log.info("step %d  %.1f min  loss %.4f  rate ×%.3f", self.step, self.seconds / 60, mean, rate)
                running.clear()
            if self.step % validate_every == 0:
                self.history.append(self.validate())
            if now - last_save > save_every:
                self._save()
                last_save = now
            if now - begun > piece:
                log.info("this piece is done, %.0f %% of the budget spent; call again to go on", 100 * self.progress)
                break
        self.history.append(self.validate())
        self._save()

    def _batches(self) -> Iterator[Tensor]:
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.sampler.batch, self.step, self.config.batch)
            while self.progress < 1:
                clips = coming.result()
                coming = reader.submit(self.sampler.batch, self.step + 1, self.config.batch)
                yield to_latents(clips).to(self.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(1 - 1 / self.config.ema_steps, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)

    @torch.no_grad()
    def validate(self) -> dict[str, object]:
        """One-step PSNR of the averaged weights on held-out crops, per σ, always with the same noise."""
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(self.validation.shape, generator=generator).to(self.device)
        found = {}
        for sigma in VALIDATION_SIGMAS:
            phase = phase_of(torch.tensor([sigma / 255], device=self.device))
            errors = [
                self._error(self.average, clip[None], drawn[None], phase)
                for clip, drawn in zip(self.validation, noise, strict=True)
            ]
            found[str(sigma)] = float((-10 * torch.cat(errors).log10()).mean())
        mean = sum(found.values()) / len(found)
        log.info("validation %.2f dB  %s", mean, {k: round(v, 2) for k, v in found.items()})
        return {"step": self.step, "minutes": round(self.seconds / 60, 1), "mean": mean, "psnr": found}

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "start": self.start,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)
        summary = {
            "config": asdict(self.config),
            "mode": str(self.mode),
            "device": self.device.type,
            "start": self.start,
            "step": self.step,
            "history": self.history,
        }
        (self.folder / "history.json").write_text(json.dumps(summary, indent=1))

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self.start = state.get("start", "unknown")
        log.info("resumed at step %d after %.1f min", self.step, self.seconds / 60)
