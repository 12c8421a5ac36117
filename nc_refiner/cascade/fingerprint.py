"""What a finished stage depends on, as hashes: a stage is skipped on resuming only if all of it still matches."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..clip import VideoClip
from ..files import digest

__all__ = ["clip_digest", "code_version", "digest_of", "named_files"]


def digest_of(value: Any) -> str:
    """SHA-256 of JSON-ready data, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def clip_digest(clip: VideoClip) -> str:
    """SHA-256 of a clip's frames, to 8 bits, and of what is known of it."""
    about = str((tuple(clip.frames.shape), clip.fps, clip.prompt, clip.seed))
    found = hashlib.sha256(about.encode("utf-8", "surrogatepass"))
    for frame in clip.frames:
        found.update(frame.mul(255).round().to(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@lru_cache(maxsize=1)
def code_version() -> str:
    """SHA-256 over this package's code and weights, and torch's version: another result may come from any other."""
    root = Path(__file__).resolve().parents[1]
    found = hashlib.sha256(torch.__version__.encode("ascii"))
    for path in sorted(root.rglob("*")):
        if path.suffix in {".py", ".safetensors"}:
            found.update(path.relative_to(root).as_posix().encode("utf-8"))
            found.update(digest(path).encode("ascii"))
    return found.hexdigest()


def named_files(value: Any, outside: Path) -> dict[str, str]:
    """Digest of every file that a string somewhere in `value` names, and size and time of those in named folders.

    `outside`: the folder the run writes into, of which nothing counts as read.
    """
    if isinstance(value, dict):
        return {name: found for inner in value.values() for name, found in named_files(inner, outside).items()}
    if isinstance(value, (list, tuple)):
        return {name: found for inner in value for name, found in named_files(inner, outside).items()}
    if not isinstance(value, str) or not 0 < len(value) < 4096 or "\0" in value:
        return {}
    path, written = Path(value), outside.resolve()
    try:
        if path.resolve().is_relative_to(written):
            return {}
        if path.is_file():
            return {value: digest(path)}
        if path.is_dir():
            # Weights in a folder are many gigabytes: their sizes and times stand for them.
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            listed = [
                (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
                for file in inside
                if not file.resolve().is_relative_to(written)
            ]
            return {value: digest_of(listed)}
    except OSError:
        return {}
    return {}
