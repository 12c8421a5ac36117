"""Where a run writes: a folder that all machines see, or a URL of any file system that fsspec knows.

For a URL, files are made in a scratch folder and put whole; a record goes after the files it names.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...files import PART, AtomicFile, failures_told
from ..records import Finished, StageFolder
from ..sources import is_url
from .attempts import FILE

__all__ = ["Destination", "at"]

ONE_PUT = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2"})
"""Stores in which an object appears whole or not at all; elsewhere a temporary is renamed."""


class Destination(ABC):
    """A place for results. Names are relative, with slashes.

    Attributes:
        root: the folder on this machine in which items' folders are made.
        url: of the place; None for a folder.
    """

    root: Path
    url: str | None = None

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; empty where there is none."""

    @abstractmethod
    def holds_results(self) -> bool:
        """Whether any item has a record here."""

    @abstractmethod
    def where(self, name: str) -> str:
        """A file's path or URL, for people."""

    def open(self, item: str) -> Path:
        """The item's folder on this machine, with what is known of it: records and attempts."""
        folder = self.root / item
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finished(self, stage: StageFolder, fingerprint: str) -> Finished | None:
        """The stage, if it is finished."""
        return stage.finished(fingerprint)

    def bring(self, item: str, names: Iterable[str]) -> None:
        """Make sure that files of an item are in its folder here."""
        return None

    def put(self, item: str, names: Iterable[str]) -> None:
        """Files of an item are made: put them where they belong, in this order."""
        return None

    def close(self, item: str) -> None:
        """Nothing of the item is needed here any more."""
        return None


class _Folder(Destination):
    def __init__(self, root: Path):
        self.root = root

    def open(self, item: str) -> Path:
        folder = super().open(item)
        _tidy(folder)
        return folder

    def close(self, item: str) -> None:
        _tidy(self.root / item)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with AtomicFile(path) as file, failures_told(path):
            file.temporary.write_bytes(content)
            file.commit()

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(path.name for path in (self.root / folder).iterdir() if path.is_file())
        return []

    def holds_results(self) -> bool:
        return any(self.root.glob("*/*.done.json"))

    def where(self, name: str) -> str:
        return str(self.root / name)


class _Remote(Destination):
    def __init__(self, url: str):
        import fsspec

        try:
            self._system, self._place = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"output is {url}: {' '.join(str(error).split())}") from None
        self.url = url
        self.root = Path(tempfile.mkdtemp(prefix="nc_refiner-"))
        weakref.finalize(self, shutil.rmtree, self.root, True)
        protocol = self._system.protocol
        self._one_put = bool(ONE_PUT & set([protocol] if isinstance(protocol, str) else protocol))

    def _at(self, name: str) -> str:
        return f"{self._place}/{name}"

    def read(self, name: str) -> bytes | None:
        try:
            return bytes(self._system.cat_file(self._at(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        if self._one_put:
            self._system.pipe_file(self._at(name), content)
            return
        with tempfile.NamedTemporaryFile(dir=self.root) as file:
            file.write(content)
            file.flush()
            self._upload(file.name, name)

    def _upload(self, path: str, name: str) -> None:
        if self._one_put:
            self._system.put_file(path, self._at(name))
            return
        folder, _, last = name.rpartition("/")
        self._system.makedirs(self._at(folder).rstrip("/"), exist_ok=True)
        part = self._at(f"{folder}/.{last}.{uuid.uuid4().hex[:12]}.part".lstrip("/"))
        try:
            self._system.put_file(path, part)
            self._system.mv(part, self._at(name))
        except BaseException:
            with contextlib.suppress(Exception):
                self._system.rm_file(part)
            raise

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._at(name))

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        # A listing that was kept would hide what other workers have put meanwhile.
        self._system.invalidate_cache()
        try:
            return list(self._system.ls(self._at(folder).rstrip("/"), detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def names(self, folder: str) -> list[str]:
        return sorted(
            entry["name"].rstrip("/").rpartition("/")[2] for entry in self._entries(folder) if entry["type"] == "file"
        )

    def holds_results(self) -> bool:
        for entry in self._entries(""):
            item = entry["name"].rstrip("/").rpartition("/")[2]
            if entry["type"] == "directory" and any(name.endswith(".done.json") for name in self.names(item)):
                return True
        return False

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    def open(self, item: str) -> Path:
        folder = super().open(item)
        for name in self.names(item):
            if name == FILE or name.endswith(".done.json"):
                self._fetch(item, name)
        return folder

    def _fetch(self, item: str, name: str) -> None:
        path = self.root / item / name
        with AtomicFile(path) as file:
            self._system.get_file(self._at(f"{item}/{name}"), os.fspath(file.temporary))
            file.commit()

    def finished(self, stage: StageFolder, fingerprint: str) -> Finished | None:
        # Objects are put whole and the record last, so that what the record names and is there, is what it was.
        found = stage.recorded(fingerprint)
        if found is None or not set(found[1]) <= set(self.names(stage.folder.name)):
            return None
        return found[0]

    def bring(self, item: str, names: Iterable[str]) -> None:
        for name in names:
            if not (self.root / item / name).exists():
                self._fetch(item, name)

    def put(self, item: str, names: Iterable[str]) -> None:
        for name in names:
            self._upload(os.fspath(self.root / item / name), f"{item}/{name}")

    def close(self, item: str) -> None:
        shutil.rmtree(self.root / item, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Remove what a process that was killed left half done; only for the one worker that has the item."""
    for path in list(folder.iterdir()):
        if path.name.startswith(".scratch-"):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(".") and path.name.endswith(PART):
            path.unlink(missing_ok=True)


def at(place: str) -> Destination:
    """The destination at a folder or URL.

    Raises:
        ValueError: no such kind of URL, or the package for it is not installed.
    """
    return _Remote(place) if is_url(place) else _Folder(Path(place))
