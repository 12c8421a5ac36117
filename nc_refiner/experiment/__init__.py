"""A/B tests of refiners: comparing arms offline or in live traffic, and deciding between them."""

from .online.assignment import Assignment, Split
from .online.flags import FlagAssigner, hash_provider
from .online.guardrails import Guardrails
from .online.refiner import ABPipeline, ABRefiner
from .online.telemetry import Observability

__all__ = [
    "ABPipeline",
    "ABRefiner",
    "Assignment",
    "FlagAssigner",
    "Guardrails",
    "Observability",
    "Split",
    "hash_provider",
]
