"""`WindowPool`: the windows of one long clip predicted side by side, by Ray actors with a copy of the model each."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..ray_address import joined_another
from .delegating import Delegating
from .registry import create

__all__ = ["WindowPool"]

RETRIES = 2
INSTALL = "ray is not installed; pip install 'nc_refiner[serve]'"


class WindowPool(Delegating):
    """An adapter whose estimates of a long clip's windows come from several actors at once.

    A clip longer than a window is calibrated and denoised as one clip, as always; only the estimates of its windows,
    which do not depend on each other, are made side by side. Their order in every sum is kept, so that the result is
    the serial one bit for bit wherever the actors' devices compute as this one's does. An actor that is lost is started
    again and its window done anew. Encoding, decoding and steps run here, as does everything about a short clip, and
    the denoising of a host that owns its trajectory.

    Args:
        name, options: of the adapter, as `create` takes them; made here and once in every actor.
        actors: ≥ 1.
        cpus, gpus: of each actor; `gpus` by default 1 where the cluster has any.
        address: of a running Ray cluster; None: the one this process is connected to, else one on this machine.

    Raises:
        ImportError: Ray is not installed. ValueError: the adapter's windows cannot be predicted on their own, or
            this process has joined another Ray than the one at `address`.

    Examples:
        >>> from nc_refiner import CalibratedRefiner
        >>> with WindowPool("embedded", actors=2) as pool:                         # doctest: +SKIP
        ...     result = CalibratedRefiner(pool)(long_clip, seed=1)
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any] | None = None,
        actors: int = 2,
        *,
        cpus: float = 1,
        gpus: float | None = None,
        address: str | None = None,
    ):
        if actors < 1:
            raise ValueError(f"actors is {actors}; it must be at least 1")
        try:
            import ray
        except ImportError as error:
            raise ImportError(INSTALL) from error
        super().__init__(create(name, **(options or {})))
        if not self.requirements.latent_windows:
            raise ValueError(f"{self.name} does not take windows of latents, so they cannot go to several actors")
        self._own = not ray.is_initialized()
        if not self._own and (obstacle := joined_another(address, "the pool")) is not None:
            raise ValueError(obstacle)
        if self._own:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # On one machine the number of CPUs is ours: more actors than cores are slow, not impossible.
            local = {"num_cpus": max(os.cpu_count() or 1, int(actors * cpus) + 1), "include_dashboard": False}
            ray.init(address=address or "local", log_to_driver=False, **({} if address else local))
        if gpus is None:
            gpus = min(1.0, float(ray.cluster_resources().get("GPU", 0)))
        made = ray.remote(_Predictor).options(num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES)
        self._actors = [made.remote(name, dict(options or {}), torch.get_num_threads()) for _ in range(actors)]
        ray.get([actor.process.remote() for actor in self._actors])
        self._condition: tuple[Any, Any] | None = None

    def predict_x0_each(
        self, pieces: Iterable[Tensor], timestep: Tensor, condition: Any, guidance_scale: float | None = None
    ) -> Iterator[Tensor]:
        """As the adapter's own, each window by the next actor; not more are held here than there are actors, twice."""
        import ray

        if self._condition is None or self._condition[0] is not condition:
            self._condition = condition, ray.put(condition)
        shared, waiting = self._condition[1], deque[Any]()
        for index, piece in enumerate(pieces):
            actor = self._actors[index % len(self._actors)]
            waiting.append(actor.predict.remote(piece.cpu(), timestep.cpu(), shared, guidance_scale))
            if len(waiting) >= 2 * len(self._actors):
                yield self._taken(ray.get(waiting.popleft()))
        while waiting:
            yield self._taken(ray.get(waiting.popleft()))

    def _taken(self, answer: tuple[Tensor, int]) -> Tensor:
        x0, evaluations = answer
        self.evaluations += evaluations
        return x0.to(self.device)

    def close(self) -> None:
        """End the actors, and Ray where it was started for them."""
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        if self._own:
            ray.shutdown()

    def __enter__(self) -> WindowPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Predictor:
    """In an actor: a copy of the model, with as many threads as the process that asks, so that sums are the same."""

    def __init__(self, name: str, options: dict[str, Any], threads: int):
        torch.set_num_threads(threads)
        self._adapter = create(name, **options)

    def process(self) -> int:
        """The actor's process id; answers once the model is loaded."""
        return os.getpid()

    def predict(
        self, piece: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None
    ) -> tuple[Tensor, int]:
        """x̂₀ on the CPU, and the evaluations it took."""
        before, device = self._adapter.evaluations, self._adapter.device
        with torch.no_grad():
            x0 = self._adapter.predict_x0(piece.to(device), timestep, condition, guidance_scale)
        return x0.cpu(), self._adapter.evaluations - before
