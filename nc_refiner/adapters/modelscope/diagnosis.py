"""What is wrong with the ModelScope stack here, each with what to do; found without importing any of it."""

from __future__ import annotations

import shutil
from importlib import metadata
from importlib.util import find_spec

__all__ = ["FFMPEG_MISSING", "problems", "require_modelscope", "stood_in"]

_INSTALL = "pip install 'nc_refiner[modelscope]'"
FFMPEG_MISSING = (
    "ffmpeg is not on PATH; ModelScope writes its videos with it. Install ffmpeg, or put the binary that "
    "`python -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())'` names on PATH as `ffmpeg`; "
    "nc_refiner's own ModelScopeAdapter does without it"
)
_NEEDED = {
    "modelscope": "modelscope",
    "torchvision": "torchvision",
    "torchsde": "torchsde",
    "einops": "einops",
    "easydict": "easydict",
    "cv2": "opencv-python-headless",
    "open_clip": "open_clip_torch==2.24.0",
    "addict": "addict",
    "simplejson": "simplejson",
    "sortedcontainers": "sortedcontainers",
    "datasets": "'datasets>=4.0.0,<=4.8.4'",
}
"""Modules that building `pipeline('video-to-video')` imports, and the packages they come in."""
_UNUSED = ("xformers", "fairscale", "rotary_embedding_torch")
"""Modules that the host imports too and that this package's loader stands in for where they are missing."""


def _version(package: str) -> tuple[int, ...] | None:
    try:
        text = metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
    numbers = []
    for part in text.split("+")[0].split(".")[:3]:
        digits = "".join(character for character in part if character.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _open_clip() -> str | None:
    found = _version("open_clip_torch") or _version("open-clip-torch")
    if found is None or found < (2, 26):
        return None
    text = ".".join(map(str, found))
    return (
        f"open_clip_torch {text} builds its text encoder batch-first, which ModelScope's code is not written for: "
        "pip install open_clip_torch==2.24.0"
    )


def _torchvision() -> str | None:
    vision, torch = _version("torchvision"), _version("torch")
    if vision is None or torch is None:
        return None
    wanted = (torch[0] - 2, torch[1] + 15) if torch[0] == 2 else None
    if wanted is not None and vision[:2] != wanted:
        return (
            f"torchvision {'.'.join(map(str, vision))} is not the one for torch {'.'.join(map(str, torch))}: "
            f"pip install 'torchvision=={wanted[0]}.{wanted[1]}.*'"
        )
    return None


def _torchvision_operators() -> str | None:
    if find_spec("torchvision") is None:
        return None
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # whatever a build for another torch raises
        return (
            f"torchvision cannot be imported ({' '.join(str(error).split())[:120]}): it was built for another torch or "
            "another device; install both from the same index (https://pytorch.org)"
        )
    return None


def problems(needs_ffmpeg: bool = False) -> list[str]:
    """One line for each thing that keeps ModelScope's video-to-video from working here, with its remedy.

    Args:
        needs_ffmpeg: also ask for ffmpeg, which only ModelScope's own writer uses.
    """
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if "modelscope" in missing:
        return [f"this refiner needs modelscope, which is missing: {_INSTALL}"]
    found = [f"ModelScope also needs {' '.join(missing)}: {_INSTALL}"] if missing else []
    found += [text for text in (_open_clip(), _torchvision() or _torchvision_operators()) if text]
    if needs_ffmpeg and shutil.which("ffmpeg") is None:
        found.append(FFMPEG_MISSING)
    return found


def stood_in() -> list[str]:
    """A line on the packages that are missing for ModelScope's own `pipeline(…)`, but not for this package's loader."""
    missing = [name for name in _UNUSED if find_spec(name) is None]
    if not missing or find_spec("modelscope") is None:
        return []
    return [
        f"ModelScope's own pipeline('video-to-video') also imports {', '.join(missing)}, hardly used; build it "
        "with nc_refiner.adapters.modelscope.loading.load_pipeline(…), which does without"
    ]


def require_modelscope() -> None:
    """Raise ImportError with every problem and its remedy, where there is one."""
    found = problems()
    if found:
        raise ImportError("; ".join(found))
