"""Which output file belongs to which reference file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import PICTURE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["pairs_of"]

SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES


def _media(folder: Path) -> dict[str, Path]:
    """File name without its ending → file, for the videos and pictures directly in `folder`."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            if path.stem in found:
                raise ValueError(
                    f"{folder} holds both {found[path.stem].name} and {path.name}; names must tell clips apart"
                )
            found[path.stem] = path
    if not found:
        raise ValueError(f"{folder} holds no video or picture")
    return found


def pairs_of(reference: Path, outputs: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pairs to compare, and notes on files without a partner.

    Args:
        reference: a file, compared with every file in `outputs`; or a folder, whose files are matched by name (without
            the ending) with those of every folder in `outputs`.
        outputs: files, or folders.

    Raises:
        ValueError: something is missing, files and folders are mixed, or no name matches.
    """
    for path in (reference, *outputs):
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder; check the name")
    if not reference.is_dir():
        folders = [path for path in outputs if path.is_dir()]
        if folders:
            raise ValueError(f"{reference} is a file and {folders[0]} a folder; give files, or folders, on both sides")
        return [(reference, output) for output in outputs], []
    sources = _media(reference)
    pairs: dict[str, list[tuple[Path, Path]]] = {name: [] for name in sources}
    notes = []
    for folder in outputs:
        if not folder.is_dir():
            raise ValueError(f"{reference} is a folder and {folder} a file; give files, or folders, on both sides")
        produced = _media(folder)
        for name in sources:
            if name in produced:
                pairs[name].append((sources[name], produced[name]))
        lone = sorted(path.name for name, path in sources.items() if name not in produced)
        extra = sorted(path.name for name, path in produced.items() if name not in sources)
        if len(lone) == len(sources):
            raise ValueError(f"no file in {folder} has the name of one in {reference}, such as {lone[0]}")
        notes += [f"{folder} has no {', '.join(lone)}"] if lone else []
        notes += [f"{reference} has no partner for {', '.join(extra)} in {folder}"] if extra else []
    return [pair for name in sources for pair in pairs[name]], notes
