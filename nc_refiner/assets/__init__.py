"""The bundled demo clip: 16 frames of Big Buck Bunny, © 2008 Blender Foundation, www.bigbuckbunny.org, CC-BY 3.0.

`demo.mp4` is a degraded version (half the resolution, blurred, compressed), as a base model might hand it on;
`demo_original.mp4` is what it was made from. Made by `tools/make_demo_clip.py`, from a part of the film that the
embedded model was not trained on.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["demo_clip"]


def demo_clip() -> tuple[Path, Path]:
    """Paths of the degraded clip and of its original."""
    folder = Path(__file__).parent
    return folder / "demo.mp4", folder / "demo_original.mp4"
