"""VideoCrafter (`lvdm`): an adapter over its models, and `wrap` for its own unmodified sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..registry import register
from .adapter import VideoCrafterAdapter

__all__ = ["VideoCrafterAdapter", "adapter"]


@register("videocrafter")
def adapter(
    model: Any = None,
    *,
    root: Path | str | None = None,
    config: Path | str | None = None,
    checkpoint: Path | str | None = None,
    **options: Any,
) -> VideoCrafterAdapter:
    """VideoCrafter 1 and 2, text- and image-to-video: over `model`, or from `root`, `config` and `checkpoint`.

    `options` are those of `VideoCrafterAdapter` and, with the three, `device`.

    Raises:
        TypeError: neither a model nor all three, or both. Others as `VideoCrafterAdapter` and its `from_checkout`.
    """
    if model is not None and root is config is checkpoint is None:
        return VideoCrafterAdapter(model, **options)
    if model is not None or root is None or config is None or checkpoint is None:
        raise TypeError("give either `model` (an object) or all of `root`, `config` and `checkpoint` (paths)")
    return VideoCrafterAdapter.from_checkout(root, config, checkpoint, **options)
