"""The stream of items through the pools, on Ray Data.

Rows hold names, digests and states only. One item is one block, so that items flow from stage to stage one by one and
a worker that is lost has at most one of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

from ..prompts import Item
from .job import item_to
from .pools import Pool
from .state import State
from .worker import Worker

__all__ = ["stream"]


def stream(packed: bytes, pools: list[Pool], items: list[Item], reports: str | None) -> Iterator[tuple[str, State]]:
    """Bring `items` through the pools.

    Args:
        packed: the job.
        pools: in order of their stages.
        items: what to bring through.
        reports: name of the actor that counts.

    Yields:
        Name and state of each item as it comes out, in any order. Items whose workers Ray gave up do not come out.

    Raises:
        ray.exceptions.RayError: the cluster is gone, or cannot start a pool.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    # A long clip is no stall, and isolation is ours.
    context.execution_no_progress_timeout_s = -1
    context.max_consecutive_actor_init_deaths = 10
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    rows = [{"item": json.dumps(item_to(item), ensure_ascii=False), "state": State().text()} for item in items]
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    for pool in pools:
        # Ray's dashboard names actors and tasks after the class.
        named = type(pool.name, (Worker,), {})
        data = data.map(
            named,
            fn_constructor_args=(packed, list(pool.kinds), reports),
            compute=ray.data.ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=1),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
        )
    for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            yield _read(row)


def _read(row: dict[str, Any]) -> tuple[str, State]:
    return json.loads(row["item"])["name"], State.read(row["state"])
