"""`base: {type: file}`: clips that exist already, one or a folder of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ...files import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from ...video import probe, read_clip
from ...video.sidecar import read_sidecar
from .base import Source, Stage, StageOptions, StageRequest, StageResult
from .registry import register_stage

__all__ = ["FileOptions", "FileStage", "files_at"]

SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES


class FileOptions(StageOptions):
    """Where the clips are.

    Attributes:
        path: a video, a picture, or a folder of them; relative to the working directory. None: a manifest names them.
        prompt_from: where a clip's prompt comes from if the config gives none: the `sidecar` beside it (`<stem>.json`),
            or its file `name`, underscores read as spaces, which is how several stacks hand prompts on.
        max_frames: read at most so many frames.
        height: resize to this height in pixels.
    """

    type: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1)] | None = None
    prompt_from: Literal["sidecar", "name"] = "sidecar"
    max_frames: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=16, le=16384)] | None = None


def files_at(path: str, key: str, what: str, suffixes: Collection[str]) -> list[Path]:
    """The file at `path`; or, of a folder, the files whose names end in one of `suffixes`, in the order of their names.

    Raises:
        ValueError: nothing there; the message names the option `key` and `what` is wanted.
    """
    place = Path(path)
    if not place.is_dir():
        if not place.exists():
            raise ValueError(f"{key}: {place} does not exist; give a {what} or a folder of {what}s")
        return [place]
    found = sorted(file for file in place.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    if not found:
        raise ValueError(f"{key}: the folder {place} holds no {what} ({', '.join(sorted(suffixes))})")
    return found


@register_stage("base", "file")
class FileStage(Stage):
    """Reads a clip, or every clip of a folder in the order of their names."""

    Options = FileOptions

    def check(self) -> None:
        """ValueError (a `VideoError`) for a path that is not there, an empty folder, or a file that is no video."""
        if self.options.path is not None:
            for source in self.sources():
                probe(source.path)

    def sources(self) -> list[Source]:
        if self.options.path is None:
            raise ValueError("base.path is missing; give a video or a folder of them, or a manifest with their sources")
        return [self._source(file) for file in files_at(self.options.path, "base.path", "video", SUFFIXES)]

    def _source(self, path: Path) -> Source:
        if self.options.prompt_from == "name":
            return Source(path.stem, path.stem.replace("_", " ").strip() or None, path)
        return Source(path.stem, read_sidecar(path).prompt, path)

    def run(self, request: StageRequest) -> StageResult:
        """Read the clip, colours exact, so that passing through files costs nothing but their own compression."""
        assert request.source is not None
        path = request.source.path
        clip = read_clip(path, max_frames=self.options.max_frames, height=self.options.height, exact_colour=True)
        request.on_step("read")
        return StageResult(
            clip.with_frames(clip.frames, f"read from {path.name}"), {"input": request.source.url or str(path)}
        )
