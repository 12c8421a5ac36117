"""Cascade files to start from, one per host, commented: what `nc-refiner init` writes."""

from __future__ import annotations

from importlib.resources import files

from ...naming import unknown_name

__all__ = ["start_text", "starts"]


def starts() -> dict[str, str]:
    """Host → what its file does, from the file's first comment; in order of name."""
    found = sorted(path.name.removesuffix(".yaml") for path in files(__name__).iterdir() if path.name.endswith(".yaml"))
    return {host: start_text(host).partition("\n")[0].removeprefix("# ") for host in found}


def start_text(host: str) -> str:
    """The YAML text of `host`'s file.

    Raises:
        ValueError: no such host; the message lists what there is.
    """
    path = files(__name__) / f"{host}.yaml"
    if not host.isidentifier() or not path.is_file():
        raise unknown_name("host", host, starts())
    return path.read_text(encoding="utf-8")
