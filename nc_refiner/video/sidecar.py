"""The `.json` beside a clip: fps, prompt, seed, history."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

from ..clip import VideoClip
from ..files import read_text

__all__ = ["Sidecar", "read_sidecar", "sidecar_path", "sidecar_text"]

_KEYS = ("fps", "prompt", "seed", "history")
# A prompt and some history lines; anything larger is some other file that happens to share the name.
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says; a field it does not mention is None (history: empty)."""

    fps: float | None = None
    prompt: str | None = None
    seed: int | None = None
    history: tuple[str, ...] = ()


def sidecar_path(path: Path) -> Path:
    """The sidecar of `path`: the same folder and stem, ending in `.json`."""
    return path.with_suffix(".json")


def sidecar_text(clip: VideoClip) -> str:
    """The sidecar of `clip` as JSON text, the same for the same clip."""
    fields = {"fps": clip.fps, "prompt": clip.prompt, "seed": clip.seed, "history": list(clip.history)}
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar beside the clip `path`; empty where there is none, and with a warning where it is not valid."""
    beside = sidecar_path(path)
    if beside == path or not beside.is_file():
        return Sidecar()
    try:
        return _parse(json.loads(read_text(beside, _MAX_BYTES, "a clip's sidecar")))
    except (OSError, ValueError, RecursionError) as error:
        warnings.warn(f"{beside} is ignored, it does not describe a clip: {error}", UserWarning, stacklevel=3)
        return Sidecar()


def _parse(data: object) -> Sidecar:
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not an object")
    if not any(key in data for key in _KEYS):
        raise ValueError(f"it has none of the keys {', '.join(_KEYS)}")
    fps, prompt, seed, history = (data.get(key) for key in _KEYS)
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, (int, float))):
        raise ValueError(f"fps is {fps!r}, not a number")
    if fps is not None and not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps is {fps!r}; it must be above 0 and finite")
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError(f"prompt is a {type(prompt).__name__}, not text")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"seed is {seed!r}, not a whole number")
    lines = [] if history is None else history
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError("history is not a list of texts")
    return Sidecar(None if fps is None else float(fps), prompt, seed, tuple(lines))
