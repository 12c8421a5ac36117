"""Stands in for torchvision where the real one does not import beside torch's CPU build; ComfyUI only imports it here."""

from . import models, transforms

__all__ = ["models", "transforms"]
__version__ = "0"
