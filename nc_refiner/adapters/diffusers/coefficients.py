"""What a pipeline noises, and by how much: calls of `add_noise` / `scale_noise`, recorded and probed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...noise_level import NoiseLevel
from ..runtime import MethodHook, replaced
from .errors import NotSDEdit
from .steps import method_signature, named_arguments

__all__ = ["NOISING_METHODS", "Noising", "noising_hooked", "probe_level", "start_level"]

NOISING_METHODS = ("add_noise", "scale_noise")
_REFERENCE_NAMES = ("original_samples", "sample")
_TIMESTEP_NAMES = ("timesteps", "timestep")


@dataclass(eq=False)
class Noising:
    """One recorded call: `x_t = alpha · reference + sigma · noise`, in the layout the pipeline used there.

    Attributes:
        x_t, reference: tensors shaped alike.
        level: α and σ, probed inside the same call.
        timestep: the (first) one noised to.
    """

    x_t: Tensor
    reference: Tensor
    level: NoiseLevel
    timestep: Tensor


def _name(arguments: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if name in arguments:
            return name
    raise ValueError(f"this scheduler noises with arguments {sorted(arguments)}; one of {names} was expected")


def probe_level(noised: Callable[..., Tensor], arguments: dict[str, Any]) -> NoiseLevel:
    """α = noised(1, 0) and σ = noised(0, 1) in float32, by the scheduler's own rule and in its present state.

    Exact for variance-preserving, exploding, flow, shifted and zero-SNR schedules alike, since noising is linear.
    It must be asked in the moment of the pipeline's own call: sigma schedulers ignore the timestep later on.

    Args:
        noised: the scheduler's `add_noise` or `scale_noise`.
        arguments: by name, as the pipeline passed them; only shape and device of the tensors matter.

    Raises:
        ValueError: the samples of one batch start at different noise levels.
    """
    x_name = _name(arguments, _REFERENCE_NAMES)
    x = arguments[x_name]
    ones = torch.ones((len(x),) + (1,) * (x.ndim - 1), dtype=torch.float32, device=x.device)
    found = []
    for signal, noise in ((ones, torch.zeros_like(ones)), (torch.zeros_like(ones), ones)):
        values = noised(**{**arguments, x_name: signal, "noise": noise})
        low, high = float(values.min()), float(values.max())
        if high - low > 1e-6 * max(1.0, abs(high)):
            raise ValueError(
                f"the samples of this batch start at different noise levels ({low:.6g} to {high:.6g}); calibration "
                "needs one level per call: refine them in separate calls"
            )
        found.append(max(0.0, low))
    return NoiseLevel(found[0], found[1])


def start_level(scheduler: Any, timestep: Tensor) -> NoiseLevel | None:
    """α and σ at `timestep` before the pipeline has noised anything; None for schedulers that cannot noise."""
    for name in NOISING_METHODS:
        method = getattr(scheduler, name, None)
        if method is not None:
            parameters = dict.fromkeys(method_signature(scheduler, name).parameters)
            x_name, t_name = _name(parameters, _REFERENCE_NAMES), _name(parameters, _TIMESTEP_NAMES)
            one = torch.ones((1, 1, 1, 1), device=timestep.device)
            return probe_level(method, {x_name: one, "noise": one, t_name: timestep.reshape(1)})
    return None


@contextmanager
def noising_hooked(
    scheduler: Any, on_noised: Callable[[Noising], Tensor], wanted: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Inside the block every noising call of `scheduler` goes through `on_noised`, whose answer is returned.

    While `wanted()` is false calls pass through: inpainting noises once per step, and nothing of that matters here.
    """

    def proxy(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        signature = method_signature(scheduler, name)

        def hooked(*args: Any, **kwargs: Any) -> Tensor:
            if not wanted():
                return method(*args, **kwargs)
            arguments = named_arguments(signature, args, kwargs)
            first = torch.atleast_1d(torch.as_tensor(arguments[_name(arguments, _TIMESTEP_NAMES)]))
            if len(first) == 0:
                raise NotSDEdit("strength leaves no step to run; raise strength or num_inference_steps")
            x_t = method(*args, **kwargs)
            reference = arguments[_name(arguments, _REFERENCE_NAMES)]
            return on_noised(Noising(x_t, reference, probe_level(method, arguments), first[0]))

        return MethodHook(method, hooked)

    with ExitStack() as stack:
        for name in NOISING_METHODS:
            method = getattr(scheduler, name, None)
            if method is not None:
                stack.enter_context(replaced(scheduler, name, proxy(name, method)))
        yield
