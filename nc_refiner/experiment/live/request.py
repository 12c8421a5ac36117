"""One request on its way through a router: its arguments, its noise, and what is to be recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..store.records import Failure, RequestRecord, derived_id, new_id
from .assignment import Assignment

__all__ = ["Arguments", "Request"]


def generators(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.Generator]:
    """The generators among the arguments, also those in lists, in order."""
    found: list[torch.Generator] = []
    for value in (*args, *kwargs.values()):
        values = value if isinstance(value, (list, tuple)) else (value,)
        found += [item for item in values if isinstance(item, torch.Generator)]
    return found


class Arguments:
    """A call's arguments, and the state its generators had when it came in.

    Another arm is given twins of the generators, so that it draws the same noise and leaves the caller's own alone; a
    call that was left behind may go on to draw from its twins while the control runs.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.args, self.kwargs = args, kwargs
        self._generators = generators(args, kwargs)
        self._states = [generator.get_state() for generator in self._generators]

    def fresh(self) -> Arguments:
        """The same arguments with twins of the generators."""
        if not self._generators:
            return self
        twins: dict[int, torch.Generator] = {}
        for generator, state in zip(self._generators, self._states, strict=True):
            if id(generator) not in twins:
                twins[id(generator)] = torch.Generator(generator.device)
                twins[id(generator)].set_state(state)

        def fresh(value: Any) -> Any:
            if isinstance(value, (list, tuple)) and any(isinstance(item, torch.Generator) for item in value):
                return type(value)(fresh(item) for item in value)
            return twins.get(id(value), value) if isinstance(value, torch.Generator) else value

        return Arguments(tuple(map(fresh, self.args)), {name: fresh(value) for name, value in self.kwargs.items()})

    def advance_to(self, other: Arguments) -> None:
        """Leave the caller's generators as `other`'s are now: as if the arm had drawn from them."""
        for own, twin in zip(self._generators, other._generators, strict=True):
            if own is not twin:
                own.set_state(twin.get_state())


@dataclass
class Request:
    """One request.

    Attributes:
        experiment, unit, given, seed: as in `RequestRecord`. at: when it came, seconds since the epoch (UTC).
        off: the assigned arm is switched off. counts: it is part of a comparison that is going on.
        served, failure: filled in as it goes.
        grad, inference: torch's modes at the caller.
    """

    experiment: str
    unit: str
    given: Assignment
    seed: int | None
    at: float
    off: bool
    counts: bool
    id: str = field(default_factory=new_id)
    served: str | None = None
    failure: Failure | None = None
    grad: bool = field(default_factory=torch.is_grad_enabled)
    inference: bool = field(default_factory=torch.is_inference_mode_enabled)

    def record(
        self,
        seconds: float,
        content_loss: tuple[float, ...],
        receipt: Mapping[str, Any] | None,
        exposed: bool,
        paired: bool,
    ) -> RequestRecord:
        """The record of the answer; `paired`: a shadow run on the same noise follows."""
        failure = self.failure
        if failure is not None and self.served is None:
            # The control failed as well: what was asked for was at fault, not the arm.
            failure = Failure(failure.arm, "caller", failure.message)
        return RequestRecord(
            experiment=self.experiment,
            unit=self.unit,
            id=self.id,
            given=self.given,
            served=self.served,
            role="live",
            exposed=exposed,
            measured=exposed or paired,
            seconds=seconds,
            at=self.at,
            pair=self.id if paired else None,
            seed=self.seed,
            failure=failure,
            content_loss=content_loss,
            receipt=receipt,
            off=self.off,
        )

    def shadow_record(
        self,
        arm: str,
        seconds: float,
        failure: Failure | None,
        content_loss: tuple[float, ...],
        receipt: Mapping[str, Any] | None,
    ) -> RequestRecord:
        """The record of a shadow run of `arm`."""
        return RequestRecord(
            experiment=self.experiment,
            unit=self.unit,
            id=derived_id(self.id, arm),
            given=Assignment(arm, self.given.reason),
            served=None if failure is not None else arm,
            role="shadow",
            exposed=False,
            measured=True,
            seconds=seconds,
            at=self.at,
            pair=self.id,
            seed=self.seed,
            failure=failure,
            content_loss=content_loss,
            receipt=receipt,
        )
