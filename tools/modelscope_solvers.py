"""ModelScope's own solver and network files, loaded by path: neither its package nor its heavy dependencies."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["load_network_code", "load_solver_code"]

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from nc_refiner.adapters.modelscope.stand_ins import missing_imports_stood_in  # noqa: E402

_FILES = ("schedules_sdedit", "solvers_sdedit", "diffusion_sdedit")
_NAME = "_modelscope_sdedit"


def _folder() -> Path:
    spec = importlib.util.find_spec("modelscope")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("modelscope is not installed: pip install modelscope==1.40.2")
    return Path(next(iter(spec.submodule_search_locations))) / "models/multi_modal/video_to_video"


def load_network_code() -> ModuleType:
    """The installed modelscope's `unet_v2v.py`, which holds `Vid2VidSDUNet` (needs torch and einops).

    Raises:
        ImportError: modelscope or einops is not installed.
    """
    spec = importlib.util.spec_from_file_location("_modelscope_unet_v2v", _folder() / "modules" / "unet_v2v.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if importlib.util.find_spec("einops") is None:
        raise ImportError("ModelScope's network needs einops, which is missing: pip install 'nc_refiner[modelscope]'")
    with missing_imports_stood_in():
        spec.loader.exec_module(module)
    return module


def load_solver_code() -> ModuleType:
    """A package of the installed modelscope's three solver modules (needs torch, torchsde, tqdm).

    Raises:
        ImportError: modelscope is not installed.
    """
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = ModuleType(_NAME)
    package.__path__ = [str(_folder() / "utils")]
    sys.modules[_NAME] = package
    try:
        for name in _FILES:
            setattr(package, name, importlib.import_module(f"{_NAME}.{name}"))
    except BaseException:
        for name in [name for name in sys.modules if name.partition(".")[0] == _NAME]:
            del sys.modules[name]
        raise
    return package
