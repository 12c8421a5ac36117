"""A local page to try a clip: drop it, choose, run, compare, take what came out."""

from .job import Cancelled, Job, Limits, Outcome, Wanted
from .page import build, launch

__all__ = ["Cancelled", "Job", "Limits", "Outcome", "Wanted", "build", "launch"]
