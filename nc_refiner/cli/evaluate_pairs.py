"""Which output file belongs to which reference file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from .evaluate_overview import Place

__all__ = ["pairs_of", "places_of"]

SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES


def _media(folder: Path) -> dict[str, Path]:
    """Name without its ending → file, for the videos and pictures in `folder` and, as `tag/name`, in its folders."""
    found: dict[str, Path] = {}
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    for path in [path for place in (folder, *inner) for path in sorted(place.iterdir())]:
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise ValueError(f"{folder} holds both {found[name].name} and {path.name}; names must tell clips apart")
            found[name] = path
    if not found:
        raise ValueError(f"{folder} holds no video or picture")
    return found


def places_of(outputs: Sequence[Path], pairs: Sequence[tuple[Path, Path]]) -> dict[Path, Place]:
    """Output → the folder in `outputs` it lies in, and the folder in there; nothing where files were given."""
    return {
        output: Place(str(folder), "" if output.parent == folder else output.parent.name)
        for folder in outputs
        if folder.is_dir()
        for _, output in pairs
        if output.is_relative_to(folder)
    }


def pairs_of(reference: Path, outputs: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pairs to compare, and notes on files without a partner.

    Args:
        reference: a file, compared with every file in `outputs`; or a folder, whose files, and those of the folders in
            it, are matched by name (without the ending) with those of every folder in `outputs`.
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
        lone = sorted(_within(path, reference) for name, path in sources.items() if name not in produced)
        extra = sorted(_within(path, folder) for name, path in produced.items() if name not in sources)
        if len(lone) == len(sources):
            raise ValueError(f"no file in {folder} has the name of one in {reference}, such as {lone[0]}")
        notes += [f"{folder} has no {', '.join(lone)}"] if lone else []
        notes += [f"{reference} has no partner for {', '.join(extra)} in {folder}"] if extra else []
    return [pair for name in sources for pair in pairs[name]], notes


def _within(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
