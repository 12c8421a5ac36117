"""Clips that lie elsewhere: a source may be a URL of any file system that fsspec knows."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath

from ..files import digest
from ..naming import one_line
from .fingerprint import digest_of
from .stages.base import Source

__all__ = ["is_url", "local_source", "source_mark"]


def is_url(text: str) -> bool:
    """Whether `text` names a place as `scheme://…`, not a file of this machine."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.replace("+", "").replace("-", "").isalnum() and len(scheme) > 1


def local_source(source: Source, folder: Path) -> Source:
    """The source as a file here: the same, or its URL's content in `folder`.

    Raises:
        OSError: it cannot be fetched.
    """
    if source.url is None:
        return source
    import fsspec

    path = folder / (PurePosixPath(source.url).name or "source")
    system, place = fsspec.core.url_to_fs(source.url)
    try:
        system.get_file(place, str(path))
    except Exception as error:  # every file system has errors of its own
        raise OSError(f"{source.url}: cannot be fetched ({one_line(error)})") from None
    return dataclasses.replace(source, path=path)


def source_mark(source: Source) -> str:
    """What tells one content of a source from another: a file's SHA-256; of a URL what its file system says of it
    (entity tag, or size and time), since it is not fetched only to see whether it changed.

    Raises:
        OSError: it is not there.
    """
    if source.url is None:
        return digest(source.path)
    import fsspec

    system, place = fsspec.core.url_to_fs(source.url)
    try:
        about = system.info(place)
    except Exception as error:  # every file system has errors of its own
        raise OSError(f"{source.url}: cannot be read ({one_line(error)})") from None
    known = {key.lower(): str(value) for key, value in about.items()}
    names = ("etag", "md5", "md5hash", "crc32c", "size", "lastmodified", "last_modified", "mtime", "updated")
    return digest_of([source.url, {name: known[name] for name in names if name in known}])
