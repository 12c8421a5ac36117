"""Stands in for torchaudio, which the CPU tests of ComfyUI import and never use."""

from . import functional, transforms

__all__ = ["functional", "transforms"]
__version__ = "0"
