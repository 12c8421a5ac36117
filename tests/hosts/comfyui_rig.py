"""ComfyUI's own code on the CPU, and small models of its own classes to sample with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from .operators import declare_torchvision_operators

STAND_INS = Path(__file__).with_name("comfyui_stand_ins")
NEEDED = ("einops", "torchsde", "safetensors", "aiohttp", "psutil", "transformers", "pydantic_settings")


def checkout() -> Path:
    """The folder named by COMFYUI_ROOT; skips, with the reason, where it or a package it needs is absent."""
    named = os.environ.get("COMFYUI_ROOT")
    if not named:
        pytest.skip("COMFYUI_ROOT names no checkout of ComfyUI")
    root = Path(named).resolve()
    if not (root / "comfy" / "samplers.py").is_file():
        pytest.skip(f"COMFYUI_ROOT is {root}, which is no checkout of ComfyUI")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"ComfyUI needs packages that are not here: {', '.join(missing)}")
    return root


def stand_in() -> None:
    """Let torchvision and torchaudio be imported beside torch's CPU build: they are never used here."""
    if find_spec("torchvision") is not None:
        declare_torchvision_operators()
    # transformers looks for them once: what stands in for them is nothing to it.
    from transformers.utils import is_torchaudio_available, is_torchvision_available

    is_torchvision_available(), is_torchaudio_available()
    for name in ("torchvision", "torchaudio"):
        if find_spec(name) is None and str(STAND_INS) not in sys.path:
            sys.path.append(str(STAND_INS))


def imported(root: Path) -> SimpleNamespace:
    """ComfyUI's modules, on the CPU; torchvision and torchaudio are stood in for."""
    stand_in()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    # Named so by other packages too: ComfyUI's own must come first.
    import_module("utils.install_util")
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    names = ("samplers", "sample", "model_base", "model_patcher", "patcher_extension", "supported_models_base",
             "model_management", "utils", "context_windows", "controlnet", "hooks")  # fmt: skip
    return SimpleNamespace(root=root, **{name: import_module(f"comfy.{name}") for name in names})


def gain(sigma: Tensor, kind: str) -> Tensor:
    """k in x̂₀ = k·x, the best guess for latents of variance 1: what `computable` predicts."""
    return (1 - sigma) / ((1 - sigma) ** 2 + sigma**2) if kind == "FLOW" else 1 / (1 + sigma**2)


def computable(x: Tensor, sigma: Tensor, context: Tensor, kind: str) -> Tensor:
    """x̂₀ = k·x."""
    return gain(sigma, kind) * x


def lively(x: Tensor, sigma: Tensor, context: Tensor, kind: str) -> Tensor:
    """An x̂₀ that mixes neighbours, is not linear and follows the prompt."""
    near = torch.roll(x, 1, -1) + torch.roll(x, 1, -2)
    return gain(sigma, kind) * (0.8 * x + 0.2 * torch.tanh(near)) + 0.3 * torch.sin(context + x.mean(1, True))


def network(base: type, predict: Callable[..., Tensor], kind: str) -> type:
    """A class ComfyUI can build as its `diffusion_model`, which says what `predict` says in the way of `kind`."""

    class Network(torch.nn.Module):
        def __init__(self, device: Any = None, operations: Any = None, **config: Any):
            super().__init__()
            self.dtype = torch.float32
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.sigma_of: Callable[[Tensor], Tensor]
            self.seen: list[tuple[int, ...]] = []

        def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, **_: Any) -> Tensor:
            self.seen.append(tuple(x.shape))
            ones = (-1,) + (1,) * (x.ndim - 1)
            sigma = self.sigma_of(timesteps).reshape(ones).to(x)
            prompt = context.mean((1, 2)).reshape(ones)
            if kind == "FLOW":
                return (x - predict(x, sigma, prompt, kind)) / sigma
            size = (1 + sigma**2).sqrt()
            full = x * size
            x0 = predict(full, sigma, prompt, kind)
            return (full - x0) / sigma if kind == "EPS" else (full / size**2 - x0) * size / sigma

    return Network


class Counter:
    """Counts guided evaluations: a wrapper of CALC_COND_BATCH, where a cache may not have stepped in before."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return executor(*args, **kwargs)


def small_model(comfy: SimpleNamespace, kind: str, predict: Callable[..., Tensor] = lively) -> Any:
    """A ModelPatcher over a real BaseModel of `kind` (EPS, V_PREDICTION, FLOW) whose network is `predict`."""
    config = comfy.supported_models_base.BASE({"in_channels": 4})
    config.manual_cast_dtype = None
    config.custom_operations = torch.nn
    made = network(torch.nn.Module, predict, kind)
    model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType[kind], unet_model=made)
    model.diffusion_model.sigma_of = model.model_sampling.sigma
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def prompt(value: float, width: int = 32, **more: Any) -> list[list[Any]]:
    """CONDITIONING of two tokens, and what else belongs to it."""
    return [[torch.full((1, 2, width), value), more]]


def picture(shape: tuple[int, ...] = (1, 4, 8, 12), seed: int = 0) -> Tensor:
    """Latents to refine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Rig:
    """Samples with ComfyUI's own samplers and remembers what went in and how much it took.

    Attributes:
        count: guided evaluations of the latest run.
        started: the noise the sampler started from in the latest run.
        conditions: what belongs to both prompts besides their words.
    """

    def __init__(self, comfy: SimpleNamespace, kind: str, predict: Callable[..., Tensor] = lively):
        self.comfy, self.kind = comfy, kind
        self.model = small_model(comfy, kind, predict)
        self.count = 0
        self.started: Tensor | None = None
        self.conditions: dict[str, Any] = {}

    def sigmas(self, steps: int = 5, denoise: float = 0.6, sampler: str = "euler") -> Tensor:
        chosen = self.comfy.samplers.KSampler(
            self.model, steps, torch.device("cpu"), sampler=sampler, scheduler="simple", denoise=denoise
        )
        return chosen.sigmas

    def run(
        self,
        sampler: str,
        calibrator: Any = None,
        *,
        noise: Tensor,
        latent: Tensor,
        sigmas: Tensor | None = None,
        mask: Tensor | None = None,
        cfg: float = 3.0,
        model: Any = None,
        callback: Any = None,
        seed: int = 7,
    ) -> Tensor:
        """The refined latents."""
        types = self.comfy.patcher_extension.WrappersMP
        patched = (self.model if model is None else model).clone()
        if calibrator is not None:
            patched.add_wrapper_with_key(types.SAMPLER_SAMPLE, "nc_refiner", calibrator)
        counter = Counter()
        patched.add_wrapper_with_key(types.CALC_COND_BATCH, "counting", counter)

        def note(executor: Any, *args: Any) -> Any:
            self.started = args[4].clone()
            return executor(*args)

        patched.add_wrapper_with_key(types.SAMPLER_SAMPLE, "noting", note)
        torch.manual_seed(3)
        try:
            return self.comfy.sample.sample_custom(
                patched,
                noise,
                cfg,
                self.comfy.samplers.sampler_object(sampler),
                self.sigmas(sampler=sampler) if sigmas is None else sigmas,
                prompt(0.2, **self.conditions),
                prompt(-0.1, **self.conditions),
                latent,
                noise_mask=mask,
                callback=callback,
                disable_pbar=True,
                seed=seed,
            )
        finally:
            self.count = counter.count
