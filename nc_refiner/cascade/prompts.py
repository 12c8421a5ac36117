"""From prompts, or the clips a base brings, to the items a cascade runs: one folder and one seed each."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.document import ConfigError
from ..files import FileError, read_text
from .stages.base import Source

__all__ = ["Item", "plan_items", "read_prompts", "safe_name"]

MAX_PROMPTS = 100_000
MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Item:
    """One run through the cascade: `name` of its folder, prompt, seed and, where the base brings clips, which.

    `extra`: a manifest's further columns, carried along to the table of results.
    """

    name: str
    prompt: str | None
    seed: int
    source: Source | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def read_prompts(path: Path) -> list[str]:
    """One prompt a line; empty lines and lines that start with `#` are left out.

    Raises:
        ConfigError: no such file, not text, or no prompt in it.
    """
    try:
        lines = read_text(path, MAX_BYTES, "a text file, one prompt a line").splitlines()
    except FileError as error:
        raise ConfigError(str(error)) from None
    prompts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not 0 < len(prompts) <= MAX_PROMPTS:
        raise ConfigError(f"{path} holds {len(prompts)} prompts; needed: 1 to {MAX_PROMPTS}, one a line")
    return prompts


def safe_name(text: str, most: int = 48) -> str:
    """`text` as a file name that every system takes: lower-case ASCII letters, digits and hyphens, not empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:most].strip("-") or "clip"


def plan_items(prompts: list[str], seed: int, sources: list[Source] | None) -> list[Item]:
    """The items, in order; the first has `seed`, each further one the next.

    Raises:
        ConfigError: several prompts beside clips of another number, or seeds past 2⁶³ − 1.
    """
    if sources is not None and len(prompts) not in (0, 1, len(sources)):
        raise ConfigError(
            f"{len(prompts)} prompts for {len(sources)} clips; give none (each clip's own), one for all, or one each"
        )
    count = max(1, len(prompts)) if sources is None else len(sources)
    if seed + count > 2**63:
        raise ConfigError(f"seed is {seed}; with {count} prompts the last one's would pass 2^63 - 1")
    items = []
    for index in range(count):
        source = None if sources is None else sources[index]
        prompt = prompts[index if len(prompts) > 1 else 0] if prompts else None
        if prompt is None and source is not None:
            prompt = source.prompt
        name = source.name if source is not None else prompt or "clip"
        items.append(Item(f"{index:03d}-{safe_name(name)}", prompt, seed + index, source))
    return items
