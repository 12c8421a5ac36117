"""What a stage leaves in a prompt's folder, and how a finished stage is told from anything else.

A record, `<stage>.done.json`, is written last. It names every file of the stage with its digest, and the fingerprint of
all the result depends on; a stage is finished only if the record says so and every file is what it says.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clip import VideoClip
from ..files import clear_parts, digest, write_text
from ..video import write_clip
from .exchange import read_exact, write_exact
from .fingerprint import clip_digest, digest_of

__all__ = ["Finished", "StageFolder", "write_json"]


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    with write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n") as file:
        file.commit()


@dataclass(frozen=True)
class Finished:
    """A finished stage of one prompt.

    Attributes:
        clip_digest: of its clip, which the next stage depends on.
        frames: how many the clip has.
        fallback: why this is not what the stage should have made; None where it is.
    """

    clip_digest: str
    frames: int
    fallback: str | None = None


class StageFolder:
    """The files of one stage in a prompt's folder: `<stage>.mp4` to look at and `<stage>.json` beside it,
    `<stage>.frames.mkv` for the next stage, `<stage>.receipt.json`, `<stage>.done.json`.
    """

    def __init__(self, folder: Path, stage: str):
        self.folder, self.stage = folder, stage
        self.video = folder / f"{stage}.mp4"
        self.frames = folder / f"{stage}.frames.mkv"
        self.receipt = folder / f"{stage}.receipt.json"
        self.record = folder / f"{stage}.done.json"

    def files(self) -> list[Path]:
        """Everything a stage leaves but its record."""
        return [self.video, self.video.with_suffix(".json"), self.frames, self.receipt]

    def finished(self, fingerprint: str) -> Finished | None:
        """The finished stage, if it was made under `fingerprint` and every file of it is whole."""
        found = self.recorded(fingerprint)
        if found is None:
            return None
        try:
            whole = all(digest(self.folder / name) == wanted for name, wanted in found[1].items())
        except OSError:
            return None
        return found[0] if whole else None

    def recorded(self, fingerprint: str) -> tuple[Finished, dict[str, str]] | None:
        """What the record says, if it is of `fingerprint` and unchanged, and the digest of each file it names; the
        files are not looked at."""
        try:
            record = self._read()
            if record is None or record.get("fingerprint") != fingerprint or record.get("record") != _sealed(record):
                return None
            files = {path.name: str(record["files"][path.name]) for path in self.files()}
            return Finished(record["clip"]["digest"], record["clip"]["frames"], record["fallback"]), files
        except (KeyError, TypeError, ValueError):
            return None

    def _read(self) -> dict[str, Any] | None:
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return record if isinstance(record, dict) else None

    def clear(self) -> None:
        """Remove the record first, then the files, so that a stage half removed is not a finished one."""
        for path in (self.record, *self.files()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            clear_parts(path)

    def write(self, clip: VideoClip, receipt: dict[str, Any], fingerprint: str, fallback: str | None) -> Finished:
        """Write a stage's files and then its record; raises `VideoError` where that fails."""
        self.clear()
        write_exact(clip, self.frames)
        notes = write_clip(clip, self.video)
        write_json(self.receipt, {**receipt, "degradations": [*receipt.get("degradations", []), *notes]})
        finished = Finished(clip_digest(clip), len(clip), fallback)
        about = {"fps": clip.fps, "prompt": clip.prompt, "seed": clip.seed, "history": list(clip.history)}
        record = {
            "stage": self.stage,
            "fingerprint": fingerprint,
            "fallback": fallback,
            "clip": {"digest": finished.clip_digest, "frames": len(clip), **about},
            "files": {path.name: digest(path) for path in self.files()},
        }
        write_json(self.record, {**record, "record": _sealed(record)})
        return finished

    def read(self) -> VideoClip:
        """The finished stage's clip, exactly."""
        record = self._read()
        if record is None:
            raise ValueError(f"{self.record} is gone; run the cascade again with --resume")
        return read_exact(self.frames, record["clip"])


def _sealed(record: dict[str, Any]) -> str:
    """Digest of everything else in a record: one that was changed by anyone but a run is not trusted."""
    return digest_of({key: value for key, value in record.items() if key != "record"})
