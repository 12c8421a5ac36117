"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

__all__ = [
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "AtomicFile",
    "DiskFull",
    "FileError",
    "clear_parts",
    "digest",
    "exclusive",
    "failures_told",
    "read_text",
    "write_text",
]

PART = ".part"
VIDEO_SUFFIXES = frozenset({".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})


class FileError(ValueError):
    """A file that cannot be read or written; the message is one line written for people."""


class DiskFull(FileError):
    """There is no room: the disk is full, or a quota or size limit was reached. The work failed, not the input."""


def write_failure(path: object, error: BaseException) -> FileError:
    """The `FileError` that tells a person why writing `path` failed."""
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC:
        return DiskFull(f"{path}: the disk is full, nothing was written; free some space or choose another folder")
    if number in (errno.EFBIG, errno.EDQUOT):
        return DiskFull(f"{path}: a file-size limit or quota was reached, nothing was written; raise it")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return FileError(f"{path}: no permission to write in {Path(str(path)).parent}; choose another folder")
    lines = str(error).splitlines() or [type(error).__name__]
    reason = os.strerror(number) if isinstance(number, int) and 0 < number < 256 else lines[0]
    return FileError(f"{path}: could not be written ({reason}); nothing was kept")


@contextlib.contextmanager
def failures_told(path: object) -> Iterator[None]:
    """Turns what the system or PyAV raise while `path` is written into a `FileError`; our own bugs pass unchanged."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise write_failure(path, error) from None
    except Exception as error:
        # PyAV's errors share no built-in base class, and importing it here would slow everyone else down.
        if type(error).__module__.partition(".")[0] != "av":
            raise
        raise write_failure(path, error) from None


class AtomicFile:
    """A temporary file in the folder of `path` that takes its place on `commit`.

    The constructor checks that `path` can be written and creates the temporary, so that a long job fails before it
    starts. Leaving the context without `commit` removes the temporary; an existing target is then untouched.

    Raises:
        FileError: the folder is missing or not writable, or `path` is a folder or not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        # A link is written through, not replaced: what it points at is the file a person means.
        self._target = Path(os.path.realpath(self.path))
        folder = self._target.parent
        if self._target.is_dir():
            raise FileError(f"{path}: is a folder; give the name of a file in it")
        if self._target.exists() and not self._target.is_file():
            raise FileError(f"{path}: is not a regular file; give the name of a file")
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise FileError(f"{path}: the folder {folder} {what}; create it first")
        self.temporary = folder / f"{_part_prefix(self._target)}{uuid.uuid4().hex[:12]}{PART}"
        try:
            # Not mkstemp: its 0600 would outlive the rename and hide the result from the user's group.
            os.close(os.open(self.temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise write_failure(path, error) from None
        # Also for an owner that is dropped, or a program that exits, without leaving the context.
        weakref.finalize(self, _remove, self.temporary)

    def commit(self) -> None:
        """Put the finished temporary in the place of the target; raises `FileError` if the system refuses."""
        try:
            descriptor = os.open(self.temporary, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(self.temporary, self._target)
        except OSError as error:
            self.discard()
            raise write_failure(self.path, error) from None

    def discard(self) -> None:
        """Remove the temporary if it is still there."""
        _remove(self.temporary)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def _part_prefix(target: Path) -> str:
    # A name at the system's limit of length leaves no room for more.
    return f".{target.name[:100]}."


def clear_parts(target: Path) -> None:
    """Remove temporaries that a killed process left for `target`; only for who holds `exclusive(target, …)`."""
    target = Path(os.path.realpath(target))
    if target.parent.is_dir():
        for entry in target.parent.iterdir():
            if entry.name.startswith(_part_prefix(target)) and entry.name.endswith(PART):
                _remove(entry)


@contextlib.contextmanager
def exclusive(target: Path, refusal: str) -> Iterator[None]:
    """Only one process of this machine and user at a time gets past this for one `target`.

    Raises:
        FileError: `refusal`, where another holds it.
    """
    from filelock import FileLock, Timeout

    user = getattr(os, "getuid", lambda: "user")()
    # Not beside the target: a folder that other programs read must hold nothing but results.
    folder = Path(tempfile.gettempdir()) / f"nc_refiner-locks-{user}"
    name = hashlib.sha256(os.path.realpath(target).encode(errors="surrogateescape")).hexdigest()[:32]
    lock = FileLock(folder / f"{name}.lock", timeout=0)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise FileError(refusal) from None
    except OSError as error:
        raise write_failure(lock.lock_file, error) from None
    try:
        yield
    finally:
        lock.release()


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(2**20), b""):
            found.update(block)
    return found.hexdigest()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> AtomicFile:
    """Write `text` to a temporary for `path` and hand it back for the caller to `commit`; raises `FileError`."""
    file = AtomicFile(path)
    try:
        with failures_told(path):
            # Half a character, as in a file name that is no UTF-8, is written as its escape: the same text in JSON.
            file.temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except BaseException:
        file.discard()
        raise
    return file


def read_text(path: Path, limit: int, what: str) -> str:
    """The UTF-8 text of a regular file.

    Args:
        path: the file.
        limit: bytes it may have at most; no more than that is ever read, whatever its size claims to be.
        what: what it should be, for the message.

    Raises:
        FileError: no such file, not a regular one, too large, unreadable, or not UTF-8.
    """
    try:
        if path.is_dir():
            raise FileError(f"{path} is a folder; give the name of {what}")
        if path.exists() and not path.is_file():
            raise FileError(f"{path} is not a regular file; give the name of {what}")
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except FileNotFoundError:
        raise FileError(f"{path} does not exist; give the name of {what}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > limit:
        raise FileError(f"{path} is larger than {limit >> 20 or 1} MiB; give the name of {what}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not a text file in UTF-8 ({error.reason}); give the name of {what}") from None
