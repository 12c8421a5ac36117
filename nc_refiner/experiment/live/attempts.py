"""One call of an arm under its guardrails, and what its failures lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..store.encoding import text
from .budgets import ArmFailure, Breaker, CallLimits, Guardrails, all_finite
from .threads import DeadlinePool, LeftBehind

__all__ = ["Attempts", "CallersOwn", "failure_kind", "failure_message", "share_a_model"]


class CallersOwn(BaseException):
    """Carries what the caller's `on_step` raised past everything that handles an arm's failures."""

    def __init__(self, error: BaseException):
        super().__init__(error)
        self.error = error


class Attempts:
    """Calls the arms other than the control.

    Args:
        arms: all arms. control: the name of the control.
        guardrails: of every arm but the control; or by arm.
        takes_on_step: whether every arm takes `on_step`, so that budgets can be watched at its steps.

    Raises:
        ValueError: guardrails for an arm that is not there, or a deadline that would leave a call running on the
            control's model.
    """

    def __init__(
        self,
        arms: Mapping[str, Callable[..., Any]],
        control: str,
        guardrails: Guardrails | Mapping[str, Guardrails] | None,
        takes_on_step: bool,
    ):
        others = [name for name in arms if name != control]
        if isinstance(guardrails, Mapping):
            unknown = sorted(set(guardrails) - set(others))
            if unknown:
                raise ValueError(f"guardrails for {unknown}; the arms beside the control are {others}")
            self._rails = {name: guardrails.get(name, Guardrails()) for name in others}
        else:
            self._rails = dict.fromkeys(others, guardrails or Guardrails())
        self._arms, self._takes_on_step = arms, takes_on_step
        self._threaded = set()
        for name, rails in self._rails.items():
            shared = share_a_model(arms[name], arms[control])
            if rails.seconds is not None and rails.deadline == "thread" and shared:
                raise ValueError(
                    f"{name} shares its adapter with the control, so a call past its deadline cannot be left running; "
                    "build an adapter for each, or choose deadline='step'"
                )
            if rails.seconds is not None and rails.deadline != "step" and not shared:
                self._threaded.add(name)
        self._breakers = {name: Breaker(rails) for name, rails in self._rails.items()}
        self.forget_threads()

    def forget_threads(self) -> None:
        """Start anew without threads, as in a forked process."""
        self._pool = DeadlinePool()
        self._left: dict[str, Callable[[], bool]] = {}

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], here: bool = False) -> Any:
        """The output of arm `name`; with `here` in this thread whatever its deadline.

        Raises:
            ArmFailure: a guardrail broke. CallersOwn: the caller's `on_step` raised. Otherwise what the arm raises.
        """
        rails, arm = self._rails[name], self._arms[name]
        left = self._left.get(name)
        if left is not None and not left():
            raise ArmFailure("busy", "an earlier call that went past its deadline is still running")
        limits = CallLimits(rails, kwargs.get("on_step"))
        if limits.needed and (self._takes_on_step or "on_step" in kwargs):
            kwargs = {**kwargs, "on_step": limits.on_step}

        def run() -> Any:
            output = arm(*args, **kwargs)
            limits.check()
            if not all_finite(output):
                raise ArmFailure("nan", "the output holds NaN or infinite values")
            return output

        def leave(ended: Callable[[], bool]) -> None:
            self._left[name] = ended
            limits.abandon()

        try:
            if here or name not in self._threaded or rails.seconds is None:
                return run()
            return self._pool.call(run, rails.seconds, leave)
        except LeftBehind as error:
            raise ArmFailure("time", f"took longer than {rails.seconds} s") from error
        except BaseException as error:
            if limits.caller_error is not None:
                raise CallersOwn(limits.caller_error) from error
            raise

    def count(self, name: str, failed: bool) -> str | None:
        """Count a call; the reason to switch the arm off, if there is one now."""
        return self._breakers[name].add(failed)

    def reset(self, name: str) -> None:
        """Forget an arm's failures."""
        if name in self._breakers:
            self._breakers[name].reset()


def share_a_model(one: Any, other: Any) -> bool:
    """Whether two arms run on one model object, and so must not run at the same time."""
    adapter = getattr(one, "adapter", None)
    return one is other or (adapter is not None and adapter is getattr(other, "adapter", None))


def failure_kind(error: BaseException) -> str:
    """What the record calls it: `raised`, `memory`, or the guardrail that broke."""
    if isinstance(error, ArmFailure):
        return error.kind
    return "memory" if isinstance(error, (MemoryError, torch.OutOfMemoryError)) else "raised"


def failure_message(error: BaseException) -> str:
    """The error in words, also where its own `__str__` fails."""
    return str(error) if isinstance(error, ArmFailure) else f"{type(error).__name__}: {text(error)}"
