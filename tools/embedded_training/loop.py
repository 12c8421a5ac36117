"""The training loop: resumable, budgeted in minutes of training, bf16 where the processor has it."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nc_refiner.adapters.embedded.adapter import LATENT_STD, PATCH
from nc_refiner.adapters.embedded.model import SpaceTimeUNet, UNetConfig

from .sampling import ClipSampler, validation_clips

log = logging.getLogger(__name__)

VALIDATION_PHASES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass
class TrainingConfig:
    """Everything that decides a training run.

    Attributes:
        minutes: training time in all, over every resume; the learning rate falls to zero at its end.
        crop, frames, batch: shape of a batch of clips, in pixels and frames.
        learning_rate: AdamW's peak rate.
        decay_from: share of the budget after which the rate falls (cosine).
        ema_steps: time constant of the weight average that is shipped.
        focus: share of samples whose noise phase lies in `focus_range`; the rest is spread over [0, 1].
        weights: shares of film, other video, photographs.
        seed: seeds crops, noise and initial weights.
    """

    minutes: float = 100.0
    crop: int = 64
    frames: int = 8
    batch: int = 8
    learning_rate: float = 1.2e-3
    decay_from: float = 0.5
    ema_steps: int = 400
    focus: float = 0.85
    focus_range: tuple[float, float] = (0.01, 0.45)
    weights: tuple[float, float, float] = (0.5, 0.2, 0.3)
    seed: int = 0
    network: UNetConfig = field(default_factory=UNetConfig)


def to_latents(clips: Tensor) -> Tensor:
    """`(B, 3, F, H, W)` in [0, 1] → `(B, 48, F, H/4, W/4)`."""
    pixels = (2 * clips - 1) / LATENT_STD
    return nn.functional.pixel_unshuffle(pixels.transpose(1, 2), PATCH).transpose(1, 2)


class Trainer:
    """Owns network, average, optimiser and random state, and can be put down and picked up at any step."""

    def __init__(self, config: TrainingConfig, cache: Path, folder: Path, compiled: bool, device: str):
        self.config, self.folder, self.device = config, folder, torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.network = SpaceTimeUNet(config.network).to(self.device)
            self.average = SpaceTimeUNet(config.network).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, object]] = []
        self.sampler = ClipSampler(cache, config.frames, config.crop, config.seed, config.weights)
        self.validation = to_latents(validation_clips(cache, 96, config.frames)).to(self.device)
        self.checkpoint = folder / "checkpoint.pt"
        if self.checkpoint.exists():
            self._load()
        self.forward = torch.compile(self.network) if compiled else self.network

    @property
    def progress(self) -> float:
        """Share of the training budget that is spent."""
        return self.seconds / (60 * self.config.minutes)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / 200)
        start = self.config.decay_from
        done = min(1.0, max(0.0, (self.progress - start) / (1 - start)))
        return self.config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def _phases(self, count: int) -> Tensor:
        anywhere = torch.rand(count, generator=self.generator)
        low, high = self.config.focus_range
        focused = low + (high - low) * torch.rand(count, generator=self.generator)
        pick = torch.rand(count, generator=self.generator) < self.config.focus
        return torch.where(pick, focused, anywhere).to(self.device)

    def _loss(self, network: Callable[..., Tensor], latents: Tensor, noise: Tensor, phase: Tensor) -> Tensor:
        angle = (phase * math.pi / 2)[:, None, None, None, None]
        noisy = angle.cos() * latents + angle.sin() * noise
        with torch.autocast(self.device.type, torch.bfloat16):
            prediction = network(noisy, phase)
        target = angle.cos() * noise - angle.sin() * latents
        return (prediction.float() - target).square().mean(dim=(1, 2, 3, 4))

    def train(self, save_every: float = 120.0, report_every: int = 50, validate_every: int = 500) -> None:
        """Train until the budget is spent, saving now and then."""
        last_save = clock = time.monotonic()
        running: list[float] = []
        for latents in self._batches():
            rate = self._rate()
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            noise = torch.randn(latents.shape, generator=self.generator).to(self.device)
            loss = self._loss(self.forward, latents, noise, self._phases(len(latents))).mean()
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
                log.info("step %d  %.1f min  loss %.4f  rate %.2e", self.step, self.seconds / 60, mean, rate)
                running.clear()
            if self.step % validate_every == 0:
                self.history.append(self.validate())
            if now - last_save > save_every:
                self._save()
                last_save = now
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
        """v-loss of the averaged weights on held-out crops, per noise phase, always with the same noise."""
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(self.validation.shape, generator=generator).to(self.device)
        losses = {}
        for phase in VALIDATION_PHASES:
            phases = torch.full((len(noise),), phase, device=self.device)
            losses[str(phase)] = float(self._loss(self.average, self.validation, noise, phases).mean())
        mean = sum(losses.values()) / len(losses)
        log.info("validation %.4f  %s", mean, {k: round(v, 4) for k, v in losses.items()})
        return {"step": self.step, "minutes": round(self.seconds / 60, 1), "mean": mean, "by_phase": losses}

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)
        summary = {"config": asdict(self.config), "step": self.step, "history": self.history}
        (self.folder / "history.json").write_text(json.dumps(summary, indent=1))

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        log.info("resumed at step %d after %.1f min", self.step, self.seconds / 60)
