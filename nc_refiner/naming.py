"""What a mistyped name may have meant, how many there are of something, and what an exception says in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["counted", "did_you_mean", "one_line", "unknown_name"]


def counted(count: int, what: str) -> str:
    """`1 frame`, `2 frames`.

    >>> counted(1, "frame"), counted(0, "frame")
    ('1 frame', '0 frames')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def did_you_mean(name: object, known: Iterable[str], before: str = "", after: str = "") -> str:
    """A question naming the one of `known` that is nearest to `name`, between `before` and `after`; "" if none is near.

    >>> did_you_mean("ssmi", ["mse", "ssim"], before="; ")
    "; did you mean 'ssim'?"
    """
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"{before}did you mean {near[0]!r}?{after}" if near else ""


def unknown_name(what: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among `known`: names the nearest, and what is allowed."""
    names = sorted(known)
    hint = did_you_mean(name, names, after=" ")
    return ValueError(f"there is no {what} {name!r}; {hint}allowed: {', '.join(names)}")


def one_line(error: BaseException, most: int = 300) -> str:
    """What an exception says, at most `most` characters on one line; its type's name where it says nothing.

    >>> one_line(ValueError("no   such file ")), one_line(KeyboardInterrupt())
    ('no such file', 'KeyboardInterrupt')
    """
    return " ".join(str(error).split())[:most] or type(error).__name__
