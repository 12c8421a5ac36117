"""The files one `refine` call writes: their names, what they must not replace, and their appearing together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import clear_parts, exclusive
from ..refining.receipt import read_receipt
from ..video.sidecar import sidecar_path

__all__ = ["OutputFiles"]

SUFFIXES = (".mp4", ".png")


def _same(a: Path, b: Path) -> bool:
    """Whether two spellings mean one file, which need not exist."""
    if os.path.realpath(a) == os.path.realpath(b):
        return True
    return a.exists() and b.exists() and a.samefile(b)


class OutputFiles:
    """The names of everything that is written beside `output`.

    Attributes:
        paths: kind → path: `output`, `sidecar`, `receipt`, and with `compare` also `sdedit`, `side_by_side`,
            `contact_sheet`.
    """

    def __init__(self, output: Path, compare: bool):
        self.paths = {
            "output": output,
            "sidecar": sidecar_path(output),
            "receipt": output.with_name(output.stem + ".receipt.json"),
        }
        if compare:
            self.paths["sdedit"] = output.with_name(output.stem + ".sdedit" + output.suffix)
            self.paths["side_by_side"] = output.with_name(output.stem + ".compare.mp4")
            self.paths["contact_sheet"] = output.with_name(output.stem + ".contact.png")
        self._earlier = self._written_before()

    @staticmethod
    def check_name(output: Path) -> None:
        """Raise ValueError unless `output` can be the name of a video or picture."""
        if output.is_dir():
            raise ValueError(f"{output} is a folder; give the name of a file in it, ending in .mp4 or .png")
        if output.suffix.lower() not in SUFFIXES:
            found = f"ends in {output.suffix}" if output.suffix else "has no ending"
            raise ValueError(f"{output} {found}; OUTPUT must end in .mp4, or .png for a single picture")

    def _written_before(self) -> set[str]:
        """Names that an earlier run to the same output put into its receipt: those may be replaced."""
        try:
            names = read_receipt(self.paths["receipt"]).get("files", [])
        except ValueError:
            return set()
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()

    def names(self) -> list[str]:
        """File names for the receipt: this run's, and those of earlier runs that are still there."""
        folder = self.paths["output"].parent
        kept = {name for name in self._earlier if (folder / name).is_file()}
        return sorted(kept | {path.name for path in self.paths.values()})

    def check(self, sources: Iterable[Path], overwrite: bool) -> None:
        """Refuse to touch what is read, a folder, or a file that no earlier run of ours wrote.

        Args:
            sources: files that are read; their sidecars are protected too.
            overwrite: allow replacing files of unknown origin, though never a source.

        Raises:
            ValueError: what stands in the way.
        """
        for source in sources:
            for path in self.paths.values():
                if _same(path, source):
                    raise ValueError(f"{path} is the input itself ({source}); choose another OUTPUT")
                if _same(path, sidecar_path(source)):
                    raise ValueError(f"{path} would be the sidecar of {source} as well; choose another name for OUTPUT")
        for path in self.paths.values():
            if path.is_dir():
                raise ValueError(f"{path} is a folder, a file of that name has to be written; choose another OUTPUT")
            if path.exists() and not overwrite and path.name not in self._earlier:
                raise ValueError(f"{path} exists and no earlier refine to OUTPUT wrote it; move it or pass --overwrite")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes to this output meanwhile; what a killed run left half-written is cleared.

        Raises:
            ValueError: another refine is at work on it.
        """
        target = self.paths["output"]
        with exclusive(target, f"another refine is writing {target}; wait for it or choose another OUTPUT"):
            for path in self.paths.values():
                clear_parts(path)
            yield
