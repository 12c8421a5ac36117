"""torchvision's wheel for CUDA beside a CPU torch: the operators it misses at import, declared and never called."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

__all__ = ["declare_torchvision_operators"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: list[torch.library.Library] = []


def declare_torchvision_operators() -> None:
    """Let `import torchvision` succeed where its compiled part cannot be loaded; nothing where it can."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or _library:
        return
    for compiled in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            _library.append(torch.library.Library("torchvision", "DEF"))
            for schema in _SCHEMAS:
                _library[0].define(schema)
            return
