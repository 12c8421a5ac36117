"""What a request for a job may say: its settings, its user, the kind of its file. Every refusal is one line."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from ..naming import did_you_mean
from ..video import ReadLimits, VideoError, probe
from .config import ALLOWABLE, Server

__all__ = ["Refused", "check_clip", "settings_of", "suffix_of", "unit_of"]

UNIT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
LONGEST_TEXT = 10_000


class Refused(Exception):
    """A request that is not taken; `status`: of the answer."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}


def settings_of(value: Any, server: Server) -> tuple[dict[str, Any], int | None]:
    """The settings and the seed that a request gives, as JSON text or as an object; `Refused` (422) for others."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            raise Refused(422, 'settings: not JSON; write for example {"seed": 1}') from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise Refused(422, 'settings: give names with values, for example {"seed": 1}')
    found: dict[str, Any] = {}
    for name, given in value.items():
        if name not in server.allow:
            allowed = ", ".join(server.allow) or "nothing"
            raise Refused(
                422,
                f"settings: {name!r} cannot be set here; {did_you_mean(name, server.allow, after=' ')}"
                f"allowed: {allowed}",
            )
        found[name] = _checked(name, given, server.allow[name])
    return {name: given for name, given in found.items() if name != "seed"}, found.get("seed")


def _checked(name: str, given: Any, bounds: Any) -> Any:
    widest = ALLOWABLE[name]
    if widest is None:
        if not isinstance(given, str) or len(given) > LONGEST_TEXT:
            raise Refused(422, f"settings: {name} is text of at most {LONGEST_TEXT} characters")
        return given
    whole = isinstance(widest[1], int)
    if isinstance(given, bool) or not isinstance(given, int if whole else (int, float)) or not math.isfinite(given):
        raise Refused(422, f"settings: {name} is a {'whole ' if whole else ''}number")
    low, high = bounds if isinstance(bounds, list) else widest
    if not low <= given <= high or (name == "strength" and given <= 0):
        raise Refused(422, f"settings: {name} is {given}; it must lie within {low:g} and {high:g}")
    return given


def unit_of(headers: Mapping[str, str], server: Server) -> str:
    """Whose request it is; without the header every request is a user of its own."""
    found = headers.get(server.unit_header)
    if found is None:
        return uuid.uuid4().hex
    if not UNIT.fullmatch(found):
        raise Refused(422, f"{server.unit_header}: at most 200 plain characters; send an id, not a name")
    return found


def suffix_of(name: str) -> str:
    """The suffix of a clip's file name; `.mp4` where it has none that is known, for the content decides."""
    suffix = Path(name.rpartition("/")[2]).suffix.lower()
    return suffix if suffix in VIDEO_SUFFIXES | PICTURE_SUFFIXES else ".mp4"


def check_clip(path: Path, server: Server) -> None:
    """`Refused` (413, 422) for a clip that is larger than this server takes, or none at all."""
    limits = ReadLimits(max_frames=2**31, max_pixels=2**27, max_seconds=1e9)
    try:
        info = probe(path, limits)
    except VideoError as error:
        raise Refused(422, str(error).replace(str(path), "the clip")) from None
    if info.frames > server.max_frames:
        raise Refused(413, f"the clip has {info.frames} frames; this server takes up to {server.max_frames}")
    if info.height > server.max_height or info.width > server.max_width:
        raise Refused(
            413,
            f"the clip is {info.width}x{info.height}; this server takes up to {server.max_width}x{server.max_height}",
        )
