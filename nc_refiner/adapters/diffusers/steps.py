"""`scheduler.step` as pipelines call it: taken apart, answered in its place, or let through."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..runtime import MethodHook, replaced

__all__ = ["StepCall", "method_signature", "named_arguments", "step_hooked"]


def method_signature(owner: Any, name: str) -> inspect.Signature:
    """Of `owner.name`; where somebody put a logger of `*args, **kwargs` there, of the class's own method."""
    signature = inspect.signature(getattr(owner, name))
    if any(one.kind is one.VAR_POSITIONAL for one in signature.parameters.values()):
        full = inspect.signature(getattr(type(owner), name))
        signature = full.replace(parameters=list(full.parameters.values())[1:])
    return signature


def named_arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that a `**kwargs` parameter swallows among them."""
    bound = dict(signature.bind(*args, **kwargs).arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound.update(bound.pop(parameter.name, {}))
    return bound


@dataclass(eq=False)
class StepCall:
    """One call of `scheduler.step`, taken apart.

    Attributes:
        step: the scheduler's own method.
        arguments: by name, as the pipeline passed them.
    """

    step: Callable[..., Any]
    arguments: dict[str, Any]

    @property
    def _sign(self) -> int:
        # With a timestep per token the flow-matching scheduler takes the velocity towards the clean side (LTX).
        return 1 if self.arguments.get("per_token_timesteps") is None else -1

    @property
    def output(self) -> Tensor:
        """The model's output, after guidance, with the sign a plain step takes."""
        value: Tensor = self.arguments["model_output"]
        return value if self._sign == 1 else -value

    @property
    def sample(self) -> Tensor:
        """The latents in the scheduler's layout and scale."""
        value: Tensor = self.arguments["sample"]
        return value

    def really(self) -> Any:
        """Let the scheduler step."""
        return self.step(**self.arguments)

    def really_from(self, sample: Tensor, output: Tensor) -> Any:
        """Let the scheduler step from other latents, with another output (signed as `output`)."""
        return self.moved(sample, output).really()

    def moved(self, sample: Tensor, output: Tensor) -> StepCall:
        """The same call from other latents, with another output (signed as `output`)."""
        return StepCall(self.step, {**self.arguments, "sample": sample, "model_output": self._sign * output})

    def answer(self, latents: Tensor) -> Any:
        """What a pipeline may take for the scheduler's answer: `latents` as the previous sample."""
        if self.arguments.get("return_dict", True) is False:
            return (latents, None)
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        return SchedulerOutput(prev_sample=latents)


@contextmanager
def step_hooked(scheduler: Any, on_step: Callable[[StepCall], Any]) -> Iterator[None]:
    """Inside the block every `scheduler.step` goes through `on_step`, whose answer is returned."""
    step, signature = scheduler.step, method_signature(scheduler, "step")

    def hooked(*args: Any, **kwargs: Any) -> Any:
        return on_step(StepCall(step, named_arguments(signature, args, kwargs)))

    with replaced(scheduler, "step", MethodHook(step, hooked)):
        yield
