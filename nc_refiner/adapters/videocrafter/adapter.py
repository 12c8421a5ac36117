"""`VideoCrafterAdapter`: the full contract over any `LatentDiffusion` of VideoCrafter's kind, by its attributes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...holding import Hold
from ...noise_level import NoiseLevel, PredictionType, predicted_x0
from ..base import RefinerAdapter, Requirements, Timesteps
from ..recognition import missing_attributes
from ..runtime import default_device, named_dtype
from .attention import attention_layers, working_attention
from .conditioning import Condition, conditioned
from .schedule import DDIMSchedule, ddim_timesteps, implied_x0, noise_level

__all__ = ["VideoCrafterAdapter", "narrow"]

_PREDICTS: dict[str, PredictionType] = {"eps": "epsilon", "v": "v_prediction"}


def _size_multiple(model: Any) -> int:
    """Pixels per side that the autoencoder and the network's own downsampling divide; 64 for the published models."""
    network = getattr(getattr(model, "model", None), "diffusion_model", None)
    levels = getattr(network, "channel_mult", None)
    downs = getattr(model, "num_downs", None)
    return 64 if levels is None or downs is None else 2 ** (int(downs) + len(levels) - 1)


class VideoCrafterAdapter(RefinerAdapter):
    """VideoCrafter 1 and 2 (512, 1024; text- and image-to-video) as a refiner: DDIM with the host's own numbers.

    The host's sampler is not used (it insists on CUDA); its arithmetic is, in its order, so that from the same `x_t`
    the latents are the host's bit for bit. The trajectory is the host's: its last step ends at the noise level of
    timestep 0, not at x₀. Encoding takes the posterior's mode and draws nothing.

    Args:
        model: the host's model, recognised by its attributes; it is set to evaluation mode. While its network runs,
            attention layers that rely on an xformers without a kernel for the device are pointed at PyTorch's own.
        fps: the frame rate to condition on, ≥ 1; None is what the published scripts use, 28 for text and 8 for image.
        guidance_scale: the default scale, ≥ 0; 1.0 is conditional only. The published scripts use 12.
        eta: share of fresh noise in every step, in [0, 1]; the published scripts use 1.
        image: `(3, H, W)` in [0, 1], for image-to-video models alone; may be replaced between clips.
        dtype: float32, or float16/bfloat16 for a copy of the network under autocast; the model given stays as it is,
            and latents stay float32.
        default_strength, default_steps: where the caller names none; the paper's t = 600 of 30 DDIM steps.

    Raises:
        TypeError: the model lacks something needed; it is named.
        ValueError: an option is out of range, or the model predicts neither ε nor v.
    """

    name = "videocrafter"
    owns_trajectory = True

    def __init__(
        self,
        model: Any,
        *,
        fps: int | None = None,
        guidance_scale: float = 12.0,
        eta: float = 1.0,
        image: Tensor | None = None,
        dtype: torch.dtype | str = torch.float32,
        default_strength: float = 0.6,
        default_steps: int = 30,
    ):
        missing = missing_attributes(model)
        if missing:
            raise TypeError(f"{type(model).__name__} is no VideoCrafter model: it lacks {', '.join(missing)}")
        if model.parameterization not in _PREDICTS:
            raise ValueError(f"the model predicts {model.parameterization!r}; supported: {', '.join(_PREDICTS)}")
        if fps is None:
            fps = 8 if hasattr(model, "embedder") else 28
        if fps < 1 or not 0 <= eta <= 1 or not guidance_scale >= 0:
            raise ValueError(
                f"fps is {fps}, eta {eta}, guidance_scale {guidance_scale}; needed: fps ≥ 1, eta in [0, 1], scale ≥ 0"
            )
        self.model = model.eval()
        self.fps, self.guidance_scale, self.eta, self.image = fps, guidance_scale, eta, image
        self._dtype = named_dtype(dtype)
        if self._dtype != torch.float32:
            self.model = _narrowed(self.model, self._dtype)
        self._attention = attention_layers(self.model)
        causal = any(getattr(layer, "causal_attention", False) for layer in model.modules())
        multiple = _size_multiple(model)
        self.requirements = Requirements(
            min_frames=model.temporal_length if causal else 1,
            max_frames=model.temporal_length,
            size_multiple=(multiple, multiple),
            default_strength=default_strength,
            default_steps=default_steps,
            latent_windows=True,
        )
        self.evaluations = 0

    @classmethod
    def from_checkout(
        cls,
        root: Path | str,
        config: Path | str,
        checkpoint: Path | str,
        *,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> VideoCrafterAdapter:
        """Load a model from a clone of VideoCrafter that need not be installed nor on the search path.

        Args:
            root: the clone's folder (with `lvdm` and `utils` in it).
            config: the host's YAML, a path as it is or inside `root`.
            checkpoint: `.safetensors`, or a pickle of nothing but tensors.
            device: default is CUDA where there is one, else the CPU.
            options: as of the class.

        Raises:
            FileNotFoundError: one of the three does not exist. ImportError: a package the host needs is missing.
            ValueError: the checkpoint is no plain one, or is of another model; the config names foreign classes.
        """
        from .checkout import load_model

        place = torch.device(device or default_device())
        model = load_model(Path(root), Path(config), Path(checkpoint))
        dtype = named_dtype(options.get("dtype", torch.float32))
        if dtype != torch.float32:
            narrow(model.model, dtype)  # nobody else has it, so it needs no copy
        return cls(model.to(place), **options)

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.alphas_cumprod.device)

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames `(F, 3, H, W)` in [0, 1] → `(1, C, F, H/8, W/8)` float32: the posterior's mode, frame by frame."""
        pixels = 2 * frames.to(self.device, torch.float32) - 1
        with torch.no_grad():
            latents = [_mode(self.model.first_stage_model.encode(frame[None])) for frame in pixels]
        return torch.stack(latents, dim=2) * self.model.scale_factor

    def condition(self, prompt: str | None = None, negative_prompt: str | None = None, **host: Any) -> Condition:
        """Text, frame rate and image for both branches of guidance.

        Args:
            prompt, negative_prompt: text; without a negative prompt the host's own rule (`uncond_type`) counts.
            host: `fps` and `image` in place of the adapter's.

        Raises:
            TypeError: another option. ValueError: an image is missing, or given to a text-to-video model.
        """
        unknown = sorted(set(host) - {"fps", "image"})
        if unknown:
            raise TypeError(f"videocrafter's condition takes fps and image, found {unknown}")
        with torch.no_grad():
            return conditioned(
                self.model, prompt, negative_prompt, host.get("fps", self.fps), host.get("image", self.image)
            )

    def timesteps(self, num_inference_steps: int, strength: float) -> Timesteps:
        """The host's DDIM timesteps t ≤ strength · t_last, falling, as its `start_timesteps` selects them."""
        if not 0 < strength <= 1:
            raise ValueError(f"strength is {strength}; it must lie in (0, 1]")
        values = ddim_timesteps(int(self.model.num_timesteps), num_inference_steps)
        kept = values[values.double() <= strength * int(values[-1])]
        return Timesteps(kept.flip(0), num_inference_steps, strength)

    def strength_at(self, timestep: float) -> float:
        """A strength that starts at or a little below `timestep` (which DDIM timesteps there are depends on S)."""
        last = int(self.model.num_timesteps) - 1
        if not 0 < timestep <= last:
            raise ValueError(f"start timestep is {timestep}; it must lie in 1…{last}")
        return timestep / last

    def noise_level(self, timestep: Tensor) -> NoiseLevel:
        """α (times the host's DDIM scale) and σ: those of its `q_sample`."""
        return noise_level(self.model, int(timestep))

    def _output(self, x_t: Tensor, timestep: Tensor, condition: Condition, guidance_scale: float | None) -> Tensor:
        """What the network says, after guidance `u + s·(c − u)`; one evaluation where s = 1."""
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        time = torch.full((len(x_t),), int(timestep), device=x_t.device, dtype=torch.long)
        attention = working_attention(self._attention, self.device, self._dtype)
        with torch.no_grad(), self._autocast(), attention:
            output = self._apply(x_t, time, condition.positive)
            if scale != 1.0:
                without = self._apply(x_t, time, condition.negative)
                output = without + scale * (output - without)
        return output

    def _apply(self, x_t: Tensor, time: Tensor, condition: dict[str, Any]) -> Tensor:
        self.evaluations += 1
        output: Tensor = self.model.apply_model(x_t, time, condition)
        return output.to(x_t.dtype)

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._dtype == torch.float32 else torch.autocast(self.device.type, self._dtype)

    def _estimate(self, output: Tensor, x_t: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """x̂₀ and ε from the network's output."""
        if self.model.parameterization == "eps":
            return implied_x0(self.model, x_t, output, timestep), output
        # v is of the scaled x₀, whose two coefficients are a unit vector.
        alpha_bar = float(self.model.alphas_cumprod[timestep])
        unit = NoiseLevel(alpha_bar**0.5, (1 - alpha_bar) ** 0.5)
        x0 = predicted_x0(output, x_t, unit, "v_prediction") * (unit.alpha / noise_level(self.model, timestep).alpha)
        return x0, unit.alpha * output + unit.sigma * x_t

    def predict_x0(
        self, x_t: Tensor, timestep: Tensor, condition: Condition, guidance_scale: float | None = None
    ) -> Tensor:
        """x̂₀ at `x_t`, guided as the host guides; two evaluations, or one where the scale is 1."""
        output = self._output(x_t, timestep, condition, guidance_scale)
        return self._estimate(output, x_t, int(timestep))[0]

    def step(
        self, x_t: Tensor, x0: Tensor, timesteps: Timesteps, index: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """One DDIM step; ε is what x̂₀ leaves of `x_t`."""
        timestep = timesteps.values[index]
        epsilon = self.noise_level(timestep).noise_in(x_t, x0)
        return DDIMSchedule(self.model, timesteps.num_inference_steps, self.eta).step(
            x0, epsilon, int(timestep), generator
        )

    def denoise(
        self,
        x_t: Tensor,
        timesteps: Timesteps,
        condition: Condition,
        *,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        first_x0: Tensor | None = None,
        on_step: Callable[[], None] | None = None,
        hold: Hold | None = None,
    ) -> Tensor:
        """The host's DDIM loop, ε taken from the network and not from x̂₀: bit for bit its own sampler's."""
        schedule = DDIMSchedule(self.model, timesteps.num_inference_steps, self.eta)
        for index, timestep in enumerate(timesteps):
            if index == 0 and first_x0 is not None:
                x0, epsilon = first_x0, self.noise_level(timestep).noise_in(x_t, first_x0)
            else:
                output = self._output(x_t, timestep, condition, guidance_scale)
                x0, epsilon = self._estimate(output, x_t, int(timestep))
            if hold is not None:
                held = hold(x0, index, len(timesteps))
                epsilon = epsilon if held is x0 else self.noise_level(timestep).noise_in(x_t, held)
                x0 = held
            x_t = schedule.step(x0, epsilon, int(timestep), generator)
            if on_step is not None:
                on_step()
        return x_t

    def decode(self, latents: Tensor) -> Tensor:
        """Latents → frames `(F, 3, H, W)` in [0, 1] on the CPU, through the host's `decode_first_stage_2DAE`."""
        with torch.no_grad():
            pixels = self.model.decode_first_stage_2DAE(latents)[0].transpose(0, 1)
        return ((pixels.float() + 1) / 2).clamp(0, 1).cpu()

    def describe(self) -> dict[str, Any]:
        return {
            "model": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "parameterization": self.model.parameterization,
            "ddim_scale": bool(self.model.use_scale),
            "image_conditioned": self.image is not None,
            "fps": self.fps,
            "eta": self.eta,
            "guidance_scale": self.guidance_scale,
            "dtype": str(self._dtype).removeprefix("torch."),
        }


_NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)


def narrow(network: Any, dtype: torch.dtype) -> None:
    """Half-precision weights but for the norms, which the host runs in float32: a CPU takes no other weights there."""
    network.to(dtype)
    for layer in network.modules():
        if isinstance(layer, _NORMS):
            layer.float()


def _narrowed(model: Any, dtype: torch.dtype) -> Any:
    """`model` where its network is narrow already; else a shallow copy of it with a narrow copy of its network."""
    done = all(
        parameter.dtype == dtype
        for layer in model.model.modules()
        if not isinstance(layer, _NORMS)
        for parameter in layer.parameters(recurse=False)
    )
    if done:
        return model
    twin = copy.copy(model)
    vars(twin)["_modules"] = dict(vars(model)["_modules"])  # a shallow copy shares the very dictionary
    twin.model = copy.deepcopy(model.model)
    narrow(twin.model, dtype)
    return twin


def _mode(posterior: Any) -> Tensor:
    mode: Tensor = posterior if isinstance(posterior, Tensor) else posterior.mode()
    return mode
