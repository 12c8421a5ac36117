"""Whether a file is all there, by what its own structure says: decoders take what is left of some formats silently."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

__all__ = ["ends_early"]

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
GIF = (b"GIF87a", b"GIF89a")


def ends_early(path: Path, head: bytes) -> bool:
    """True where the Matroska, WebM or GIF file that starts with `head` is shorter than it says; False where it is
    whole, of another format, or does not say."""
    with path.open("rb") as stream:
        if head.startswith(EBML):
            return _matroska(stream, path.stat().st_size)
        if head.startswith(GIF):
            return _gif(stream)
    return False


def _matroska(stream: BinaryIO, size: int) -> bool:
    """RFC 8794 and RFC 9559: an EBML header, then one Segment whose length is known unless it was streamed."""
    stream.seek(len(EBML))
    header, _ = _length(stream)
    stream.seek(header or 0, 1)
    while True:
        identifier = stream.read(4)
        if len(identifier) < 4:
            return True
        length, known = _length(stream)
        if length is None:
            return True
        if identifier == SEGMENT:
            return known and stream.tell() + length > size
        if not known:
            return False
        stream.seek(length, 1)


def _length(stream: BinaryIO) -> tuple[int | None, bool]:
    """The next length, None at the end of the file; and whether it is known: all ones say that it is not."""
    first = stream.read(1)
    if not first or not first[0]:
        return None, False
    width = 9 - first[0].bit_length()
    rest = stream.read(width - 1)
    if len(rest) < width - 1:
        return None, False
    value = int.from_bytes(bytes([first[0] & ((1 << (8 - width)) - 1)]) + rest, "big")
    return value, value != (1 << (7 * width)) - 1


def _gif(stream: BinaryIO) -> bool:
    """GIF89a specification: blocks up to the trailer `;`."""
    screen = stream.read(13)
    if len(screen) < 13:
        return True
    stream.seek(_colours(screen[10]), 1)
    while block := stream.read(1):
        if block == b";":
            return False
        if block == b",":
            image = stream.read(9)
            if len(image) < 9:
                return True
            stream.seek(_colours(image[8]) + 1, 1)
        elif block == b"!":
            stream.seek(1, 1)
        elif block != b"\0":
            return False  # not the structure it should be: for the decoder to judge
        else:
            continue
        while True:
            length = stream.read(1)
            if not length:
                return True
            if length == b"\0":
                break
            stream.seek(length[0], 1)
    return True


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
