"""What pipelines share and a call changes for its length: models, their attention processors, their caches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["cached_parts", "models_restored", "shared_models"]


def shared_models(pipe: Any) -> list[torch.nn.Module]:
    """The pipeline's models, a compiled one as the model it was made of."""
    models = (value for value in vars(pipe).values() if isinstance(value, torch.nn.Module))
    return list({id(model): model for model in (getattr(one, "_orig_mod", one) for one in models)}.values())


def _stateful(model: torch.nn.Module) -> Iterator[Any]:
    """The hook registries of diffusers in `model` that hold a hook with memory: every feature cache is one."""
    for part in model.modules():
        registry = getattr(part, "_diffusers_hook", None)
        if any(getattr(hook, "_is_stateful", False) for hook in getattr(registry, "hooks", {}).values()):
            yield registry


def cached_parts(pipe: Any) -> list[str]:
    """Names of the pipeline's models with a feature cache, whether `enable_cache` or `apply_…` put it there."""
    return [
        name
        for name, model in pipe.components.items()
        if getattr(model, "is_cache_enabled", False)
        or (isinstance(model, torch.nn.Module) and any(True for _ in _stateful(model)))
    ]


@contextmanager
def models_restored(pipe: Any) -> Iterator[None]:
    """Undo, where the block is left early, what a pipeline undoes itself only after its last step: attention
    processors (PAG) and the memory of feature caches.
    """
    parts: dict[str, Any] = pipe.components
    processors = {name: dict(part.attn_processors) for name, part in parts.items() if hasattr(part, "attn_processors")}
    try:
        yield
    except BaseException:
        for name, before in processors.items():
            now = parts[name].attn_processors
            if any(now[place] is not processor for place, processor in before.items()):
                parts[name].set_attn_processor(before)
        for part in parts.values():
            if isinstance(part, torch.nn.Module):
                for registry in _stateful(part):
                    registry.reset_stateful_hooks(recurse=False)
        raise
