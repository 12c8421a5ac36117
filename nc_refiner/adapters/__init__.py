"""Adapters: everything a refiner does that is not calibration, one class per host."""

from .base import RefinerAdapter, Requirements, Timesteps
from .registry import available, create, register

__all__ = ["RefinerAdapter", "Requirements", "Timesteps", "available", "create", "register"]
