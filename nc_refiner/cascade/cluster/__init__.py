"""A cascade over many clips on many processes or machines, on Ray: the same files as a run in one process."""

from .results import read_results
from .runner import ClusterRunner

__all__ = ["ClusterRunner", "read_results"]
