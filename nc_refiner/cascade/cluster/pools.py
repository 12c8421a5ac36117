"""Which stages share a pool of workers, how many workers each pool has, and what one of them takes."""

from __future__ import annotations

from dataclasses import dataclass

from ...config.document import ConfigError
from ...config.options import Resources
from ..config import CascadeConfig
from ..stages.base import Kind
from .session import Capacity

__all__ = ["Pool", "needed_cpus", "pools"]


@dataclass(frozen=True)
class Pool:
    """Workers that hold the same stages.

    Attributes:
        kinds: the stages, neighbours, in order.
        actors: how many workers.
        cpus, gpus: what each of them takes.
    """

    kinds: tuple[Kind, ...]
    actors: int
    cpus: float
    gpus: float

    @property
    def name(self) -> str:
        """As Ray's dashboard shows it."""
        return "".join(kind.capitalize() for kind in self.kinds)


def _groups(config: CascadeConfig, kinds: list[Kind]) -> list[tuple[list[Kind], Resources | None]]:
    """A stage that names its resources has a pool of its own; neighbours that name none share one."""
    found: list[tuple[list[Kind], Resources | None]] = []
    for kind in kinds:
        asked: Resources | None = getattr(config, kind).resources
        if found and asked is None and found[-1][1] is None:
            found[-1][0].append(kind)
        else:
            found.append(([kind], asked))
    return found


def needed_cpus(config: CascadeConfig, kinds: list[Kind], workers: int) -> int:
    """Processors that a Ray of our own must count for every pool to start."""
    total = 0.0
    for _, asked in _groups(config, kinds):
        actors = workers if asked is None or asked.actors is None else asked.actors
        total += actors * (1.0 if asked is None or asked.cpus is None else asked.cpus)
    return int(total) + 1


def pools(config: CascadeConfig, kinds: list[Kind], workers: int | None, capacity: Capacity) -> list[Pool]:
    """The pools of a run.

    Args:
        config: of the cascade; each stage's `resources`.
        kinds: the stages that run.
        workers: of each pool that does not say; None: as many as fit.
        capacity: what there is.

    Raises:
        ConfigError: more than there is.
    """
    groups = _groups(config, kinds)
    found = []
    for names, asked in groups:
        # Without a word, a GPU goes to each worker where there are any; then their number decides.
        gpus = asked.gpus if asked is not None and asked.gpus is not None else (1.0 if capacity.gpus >= 1 else 0.0)
        cpus = 1.0 if asked is None or asked.cpus is None else asked.cpus
        actors = workers if asked is None or asked.actors is None else asked.actors
        if actors is None:
            fits = [capacity.cpus / cpus if cpus else capacity.cpus, capacity.gpus / gpus if gpus else capacity.cpus]
            actors = max(1, int(min(fits) / len(groups)))
        found.append(Pool(tuple(names), actors, cpus, gpus))
    for what, there in (("cpus", capacity.cpus), ("gpus", capacity.gpus)):
        wanted = sum(pool.actors * getattr(pool, what) for pool in found)
        if wanted > there:
            raise ConfigError(
                f"the stages ask for {wanted:g} {what}, the cluster has {there:g}; "
                "lower resources.actors or --workers, or add machines"
            )
    return found
