"""The contract between `CalibratedRefiner` and a host: the hooks, in the order they are called."""

from __future__ import annotations

import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..holding import Hold
from ..noise_level import NoiseLevel

__all__ = ["RefinerAdapter", "Requirements", "Timesteps"]


@dataclass(frozen=True)
class Requirements:
    """What an adapter can take; the refiner pads, windows or refuses accordingly and says so in the receipt.

    Attributes:
        min_frames, max_frames: frames per window; `max_frames = None` is any number.
        size_multiple: height and width must be multiples of these, counted from `size_offset`.
        size_offset: what height and width leave over when divided by `size_multiple`; 0 ≤ offset < multiple.
        min_size, max_size: least and greatest height and width, both of a size that fits; the same for a host of one
            size. Smaller clips are padded, larger ones refused; `max_size = None` is any.
        default_strength, default_steps, default_cutoff: used where the caller names none.
        prompt, negative_prompt, guidance: whether the host can use them. An adapter that has no `condition` of its own
            takes no prompt, whatever stands here.
        latent_windows: whether a clip longer than a window may be kept as latents and given to the hooks piece by
            piece: one latent frame per frame, encoded and decoded without regard to its neighbours; `predict_x0` and
            `denoise` depend on their arguments alone, not on what was encoded last; `step` takes any number of frames.
        frame_factor: frames that a latent frame stands for, all but the first, which stands for one (causal video
            VAEs); masks are averaged over them.
    """

    min_frames: int = 1
    max_frames: int | None = None
    size_multiple: tuple[int, int] = (1, 1)
    size_offset: tuple[int, int] = (0, 0)
    min_size: tuple[int, int] = (1, 1)
    max_size: tuple[int, int] | None = None
    default_strength: float = 0.6
    default_steps: int = 30
    default_cutoff: float = 1.0
    prompt: bool = True
    negative_prompt: bool = True
    guidance: bool = True
    latent_windows: bool = False
    frame_factor: int = 1


@dataclass(frozen=True, eq=False)
class Timesteps:
    """The timesteps a refinement runs, first to last, in the host's own units.

    Attributes:
        values: 1-D tensor, at least one entry.
        num_inference_steps: steps of the whole schedule, of which `strength` keeps the last part.
        strength: share of the schedule that is run, in (0, 1].
    """

    values: Tensor
    num_inference_steps: int
    strength: float

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or len(self.values) == 0:
            raise ValueError(
                f"strength {self.strength} of {self.num_inference_steps} steps leaves no step to run; raise either"
            )

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.values)

    @property
    def first(self) -> Tensor:
        """The initial denoising step `t`: where noise enters and where calibration happens."""
        return self.values[0]


class _CountPerThread:
    """A number of an instance that every thread sees from 0 on."""

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else vars(owner).get("_counts", {}).get(threading.get_ident(), 0)

    def __set__(self, owner: Any, count: int) -> None:
        vars(owner).setdefault("_counts", {})[threading.get_ident()] = count


class RefinerAdapter(ABC):
    """One host, as `CalibratedRefiner` sees it. Latents are `(B, C, F, H, W)`; images are `F = 1`. H and W are places
    in the picture, in order: the cutoff is a frequency along them, so packed or folded latents must be unpacked first.

    `name` must be the name under which the adapter is registered: receipts carry it, and `--from-receipt` looks it up.
    `evaluations` counts calls of the host's network: a guided prediction counts twice where the host calls it twice,
    once where one call takes both halves as a batch; the size of a batch does not count. An adapter adds to it where it
    calls the network; every thread has a count of its own, so that runs side by side do not count each other's.
    `owns_trajectory` says that `denoise` is the host's own solver and need not equal the loop over `predict_x0` and
    `step`; `can_reuse` that it can start from a `first_x0` it is given. No hook may touch a global random state.
    """

    name: str = ""
    requirements: Requirements = Requirements()
    evaluations: int = cast(int, _CountPerThread())
    owns_trajectory: bool = False
    can_reuse: bool = True

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where latents live."""

    @abstractmethod
    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames `(F, 3, H, W)` float32 in [0, 1] → reference latents `x_r` `(1, C, F', H', W')`."""

    @property
    def takes_prompt(self) -> bool:
        """Whether a prompt reaches the host: its requirements say so, and `condition` is not the default one."""
        return self.requirements.prompt and type(self).condition is not RefinerAdapter.condition

    @property
    def can_hold(self) -> bool:
        """Whether `denoise` takes `hold`; those written before there was such a thing do not."""
        taken = inspect.signature(self.denoise).parameters
        return "hold" in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())

    def condition(self, prompt: str | None = None, negative_prompt: str | None = None, **host: Any) -> Any:
        """What the host's network is conditioned on; opaque to everyone else. Default: nothing."""
        if host:
            raise TypeError(f"{self.name or type(self).__name__} takes no further options, found {sorted(host)}")
        return None

    @abstractmethod
    def timesteps(self, num_inference_steps: int, strength: float) -> Timesteps:
        """The host's own rule for which steps `strength` in (0, 1] runs, noisiest first; `num_inference_steps` and
        `strength` stand in the answer as asked. The last step may end at x₀ or at the host's own least noise.
        """

    def count_steps(self, num_inference_steps: int, strength: float) -> int:
        """How many steps `timesteps` would run, at least 1; for progress bars, so it must be cheap. A host that has to
        be asked may answer by its usual rule and be off by one."""
        return len(self.timesteps(num_inference_steps, strength))

    def strength_at(self, timestep: float) -> float:
        """The strength whose first step is (nearest to) `timestep`; for callers that think in timesteps."""
        raise NotImplementedError(f"{self.name or type(self).__name__} takes `strength`, not a start timestep")

    @abstractmethod
    def noise_level(self, timestep: Tensor) -> NoiseLevel:
        """α and σ of the latents that `predict_x0` and `step` see at `timestep`."""

    @abstractmethod
    def predict_x0(self, x_t: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None = None) -> Tensor:
        """x̂₀ at `x_t`, guided as the host guides (`None`: the host's scale), and clipped or thresholded where the host
        does so in its own sampling. Must not change any state.
        """

    def predict_x0_each(
        self, pieces: Iterable[Tensor], timestep: Tensor, condition: Any, guidance_scale: float | None = None
    ) -> Iterator[Tensor]:
        """`predict_x0` of several windows of one clip, in order: one after another, unless an adapter can have them
        done side by side. Arguments as there."""
        for piece in pieces:
            yield self.predict_x0(piece, timestep, condition, guidance_scale)

    def step(
        self, x_t: Tensor, x0: Tensor, timesteps: Timesteps, index: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """From `x_t` at `timesteps.values[index]` to the next noise level, given the estimate x̂₀.

        Only for hosts whose loop we run; one whose solver owns the trajectory overrides `denoise` instead.
        """
        raise NotImplementedError(f"{self.name or type(self).__name__} runs whole trajectories; call denoise")

    def denoise(
        self,
        x_t: Tensor,
        timesteps: Timesteps,
        condition: Any,
        *,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        first_x0: Tensor | None = None,
        on_step: Callable[[], None] | None = None,
        hold: Hold | None = None,
    ) -> Tensor:
        """Run every step from `x_t`. Override where the host's solver owns the trajectory.

        `first_x0`, if given, stands in for the first prediction (`reuse_prediction`), which is then not made; `on_step`
        is called after each step; `hold`, given only where something is held, changes every estimate before its step.
        """
        for index, timestep in enumerate(timesteps):
            reused = first_x0 if index == 0 else None
            x0 = self.predict_x0(x_t, timestep, condition, guidance_scale) if reused is None else reused
            if hold is not None:
                x0 = hold(x0, index, len(timesteps))
            x_t = self.step(x_t, x0, timesteps, index, generator)
            if on_step is not None:
                on_step()
        return x_t

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents → frames `(F, 3, H, W)` float32 on the CPU, clamped to [0, 1]."""

    def describe(self) -> dict[str, Any]:
        """Facts for the receipt: versions, weights, precision; as JSON takes them."""
        return {}
