"""Stands in for torchvision where it is not installed; the CPU tests of ComfyUI import it and never use it."""

from . import models, transforms

__all__ = ["models", "transforms"]
__version__ = "0"
