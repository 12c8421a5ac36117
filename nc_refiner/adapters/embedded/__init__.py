"""The refiner that ships with the package: a small trained video diffusion model, its weights and its card."""

from .adapter import EmbeddedRefiner

__all__ = ["EmbeddedRefiner"]
