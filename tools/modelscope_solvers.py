"""ModelScope's own schedule and solver files, loaded by path: neither its package nor its heavy dependencies."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["load_solver_code"]

_FILES = ("schedules_sdedit", "solvers_sdedit", "diffusion_sdedit")
_NAME = "_modelscope_sdedit"


def load_solver_code() -> ModuleType:
    """A package of the installed modelscope's three solver modules (needs torch, torchsde, tqdm).

    Raises:
        ImportError: modelscope is not installed.
    """
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    spec = importlib.util.find_spec("modelscope")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("modelscope is not installed: pip install modelscope==1.40.2")
    folder = Path(next(iter(spec.submodule_search_locations))) / "models/multi_modal/video_to_video/utils"
    package = ModuleType(_NAME)
    package.__path__ = [str(folder)]
    sys.modules[_NAME] = package
    try:
        for name in _FILES:
            setattr(package, name, importlib.import_module(f"{_NAME}.{name}"))
    except BaseException:
        for name in [name for name in sys.modules if name.partition(".")[0] == _NAME]:
            del sys.modules[name]
        raise
    return package
