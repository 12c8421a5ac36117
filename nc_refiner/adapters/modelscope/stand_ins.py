"""What the host imports and cannot find: stand-ins for packages it does not need, a second name for a misspelt file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["missing_imports_stood_in", "name_schedule"]


def _refuses(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ImportError(f"ModelScope asked for {name}, which is not installed: pip install {name.split('.')[0]}")

    return refuse


def _without_checkpointing(module: Any, *_: Any, **__: Any) -> Any:
    """Checkpointing trades time for memory in training; without gradients the module itself does the same."""
    return module


_STAND_INS: dict[str, dict[str, Any]] = {
    "fairscale": {},
    "fairscale.nn": {},
    "fairscale.nn.checkpoint": {"checkpoint_wrapper": _without_checkpointing},
    "rotary_embedding_torch": {"RotaryEmbedding": _refuses("rotary_embedding_torch")},
    "xformers": {},
    "xformers.ops": {"memory_efficient_attention": _refuses("xformers")},
}


def _missing(name: str) -> bool:
    return name.partition(".")[0] not in sys.modules and find_spec(name.partition(".")[0]) is None


@contextmanager
def missing_imports_stood_in() -> Iterator[None]:
    """Inside the block the host's modules can be imported without xformers, fairscale and rotary_embedding_torch.

    What is installed is used as it is; afterwards `sys.modules` shows none of the stand-ins.
    """
    inserted: dict[str, ModuleType] = {}
    for name in [name for name in _STAND_INS if _missing(name)]:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, loader=None, is_package=True)
        module.__path__ = []
        vars(module).update(_STAND_INS[name])
        inserted[name] = module
        parent, _, child = name.rpartition(".")
        if parent in inserted:
            setattr(inserted[parent], child, module)
    sys.modules.update(inserted)
    try:
        yield
    finally:
        for name, module in inserted.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def name_schedule() -> None:
    """Let the host's image-to-video import `schedule` from a folder where the file is called `shedule.py`.

    Call it inside `missing_imports_stood_in`. Where a release has `schedule.py`, that one is used.
    """
    folder = "modelscope.models.multi_modal.image_to_video.utils"
    if f"{folder}.schedule" not in sys.modules and find_spec(f"{folder}.schedule") is None:
        sys.modules[f"{folder}.schedule"] = importlib.import_module(f"{folder}.shedule")
