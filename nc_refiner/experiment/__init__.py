"""A/B tests of refiners: comparing arms offline or in live traffic, and deciding between them."""

from .live.ab import ABPipeline, ABRefiner
from .live.assignment import Split
from .live.budgets import Guardrails
from .live.flags import FlagAssigner, hash_provider
from .live.telemetry import Observability
from .store.events import Assignment

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
