"""SDEdit at the strength that keeps as much content as calibration does: is calibration more than turning it down?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..adapters.base import Timesteps
from ..calibration import content_loss
from .setting import Setting

__all__ = ["GRID", "Match", "matched_sdedit"]

GRID = 32


@dataclass(frozen=True, eq=False)
class Match:
    """What was found.

    Attributes:
        latents: the refined latents.
        strength: the strength that gave them, and `steps`, how many steps that ran.
        content_loss: ‖L_ν(x − x_r)‖ / ‖x_r‖ of them.
        target: the loss that was asked for.
        tried: (strength, loss) of every candidate, in the order of trying.
    """

    latents: Tensor
    strength: float
    steps: int
    content_loss: float
    target: float
    tried: tuple[tuple[float, float], ...]


def matched_sdedit(
    setting: Setting,
    target: float,
    cutoff: float = 1.0,
    denoise: Callable[[Timesteps], Tensor] | None = None,
) -> Match:
    """Plain SDEdit from the same noise at the strength whose *refined* latents have the content loss nearest `target`.

    The candidates are `GRID` parts of the setting's own strength, each run in as many steps as the setting has (of a
    finer schedule), so that the rival lacks nothing but noise. Bisection takes the loss to rise with the strength.

    Args:
        setting: the window, at the strength that calibration ran.
        target: content loss of the calibrated, refined latents at the same `cutoff`.
        cutoff: ν in [0, 1] of the loss.
        denoise: gives SDEdit's latents for some timesteps; for callers that keep what they computed.

    Returns:
        The candidate with the nearest loss; log₂ `GRID` of them are run, or one more.
    """
    run = denoise or (lambda timesteps: setting.at(timesteps).denoise(setting.at(timesteps).x_t))
    tried: dict[int, tuple[Timesteps, Tensor, float]] = {}

    def loss(part: int) -> float:
        if part not in tried:
            timesteps = _part_of(setting, part)
            latents = run(timesteps)
            tried[part] = timesteps, latents, content_loss(latents, setting.reference, cutoff)
        return tried[part][2]

    low, high = 1, GRID
    while low < high:
        middle = (low + high) // 2
        if loss(middle) < target:
            low = middle + 1
        else:
            high = middle
    # `low` is the first candidate at or above the target; the one below it may be nearer.
    for part in (low, low - 1):
        if part >= 1:
            loss(part)
    timesteps, latents, nearest = min(tried.values(), key=lambda found: abs(found[2] - target))
    return Match(
        latents,
        timesteps.strength,
        len(timesteps),
        nearest,
        target,
        tuple((steps.strength, value) for steps, _, value in tried.values()),
    )


def _part_of(setting: Setting, part: int) -> Timesteps:
    """As many steps as the setting has, from `part` / `GRID` of its strength."""
    own = setting.timesteps
    if part == GRID:
        return own
    count = len(own)
    total = max(count, round(count * GRID / (part * own.strength)))
    return setting.adapter.timesteps(total, count / total)
