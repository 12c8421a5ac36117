"""The ladder from the gentlest refinement to the strongest: one number decides strength and ν."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...adapters.base import Requirements
from ...calibration_options import NoiseCalibration
from ..settings import RefineSettings

__all__ = ["Ladder", "Rung"]

TOP = 2.0
GENTLEST = 0.05
NEAR = 0.004


@dataclass(frozen=True)
class Rung:
    """One place on the ladder: what a run there is asked to do. `strength` is the share of the schedule that is run."""

    height: float
    settings: RefineSettings
    calibration: NoiseCalibration
    strength: float


@dataclass(frozen=True)
class Ladder:
    """Refinements in the order of how much they change.

    From height 0 to 1 the strength grows in proportion up to `strongest`, at N and ν as they are asked for: at the same
    nearness to the input, a calibrated refinement at a high strength has more detail than SDEdit at a low one. From 1
    to 2 ν falls to 0, which is SDEdit at the strongest strength. Every rung runs about as many steps, so that all cost
    the same; where they start is as fine as the schedule allows.

    Attributes:
        settings, calibration: what a run is asked to do besides.
        strongest: the strength at height 1, in (0, 1].
        steps: denoising steps of every rung, or up to three more.
        top: the highest rung, in (0, 2].
    """

    settings: RefineSettings
    calibration: NoiseCalibration
    strongest: float
    steps: int
    top: float = TOP

    @classmethod
    def of(
        cls,
        needs: Requirements,
        settings: RefineSettings,
        calibration: NoiseCalibration,
        strongest: float | None = None,
    ) -> Ladder:
        """The ladder for an adapter: up to `strongest`, or half as much again as its default strength. A strength in
        `settings` is the highest that may be chosen.

        Raises:
            ValueError: `start_timestep` (the ladder needs strengths), or no calibration.
        """
        if settings.start_timestep is not None:
            raise ValueError("keep chooses where to start: give strength (the highest allowed) or no start_timestep")
        if calibration.iterations == 0 or calibration.cutoff == 0:
            raise ValueError("keep needs calibration: iterations of at least 1 and a cutoff above 0")
        usual = needs.default_strength
        strongest = strongest or min(1.5 * usual, 0.5 * (1 + usual))
        top = TOP
        if settings.strength is not None:
            # A strength that is allowed beyond the ladder's own makes it longer, a lower one cuts it off.
            top = TOP if settings.strength >= strongest else settings.strength / strongest
            strongest = max(strongest, settings.strength)
        schedule = settings.num_inference_steps or needs.default_steps
        return cls(settings, calibration, strongest, max(1, int(schedule * min(usual, strongest) + 1e-9)), top)

    def rung(self, height: float) -> Rung:
        """The rung at `height`; what is below the gentlest or above the top is taken as that."""
        height = min(max(height, GENTLEST), self.top)
        wanted = self.strongest * min(height, 1.0)
        # Of a few step counts the one whose schedule starts nearest to what is wanted; near enough, the cheapest.
        pairs = [(count, max(count, round(count / wanted))) for count in range(self.steps, self.steps + 4)]
        count, schedule = min(pairs, key=lambda pair: (max(abs(pair[0] / pair[1] / wanted - 1), NEAR), pair[0]))
        # Half a step more than is run: hosts round down, and a product must not fall below its whole number.
        strength = min(1.0, (count + 0.5) / schedule)
        settings = replace(self.settings, strength=strength, num_inference_steps=schedule)
        cutoff = self.calibration.cutoff * min(1.0, TOP - height)
        return Rung(height, settings, replace(self.calibration, cutoff=cutoff), count / schedule)
