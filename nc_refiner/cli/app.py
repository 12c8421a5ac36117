"""`nc-refiner app`: a local page to try a clip."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from .options import option

__all__ = ["try_it"]


def try_it(
    host: Annotated[
        str, option("Address to listen on (default 127.0.0.1: this machine alone).", "--host")
    ] = "127.0.0.1",
    port: Annotated[int, option("Port (default 7860).", "--port", min=1, max=65535)] = 7860,
    refiner: Annotated[
        list[str] | None, option("What can be chosen: embedded, or NAME=MODEL, as diffusers=FOLDER.", "--refiner")
    ] = None,
    password_file: Annotated[
        Path | None, option("A file with USER:PASSWORD, needed where others can reach the page.", "--password-file")
    ] = None,
    max_megabytes: Annotated[int, option("Largest file that is taken (default 100).", min=1, max=10_000)] = 100,
    max_frames: Annotated[int, option("Most frames of one run (default 48).", min=1, max=10_000)] = 48,
    show: Annotated[bool, option("Open it in the browser.", "--open/--no-open")] = True,
) -> None:
    """Open a page in the browser: drop a clip, choose, refine, compare.

    One run at a time; others wait. Needs pip install 'nc_refiner[app]'.
    """
    from ..adapters.registry import available
    from ..app import Job, Limits, build, launch
    from ..config.refiner import Backbone
    from ..naming import unknown_name

    password = _password(host, password_file)
    backbones = {}
    for given in refiner or ["embedded"]:
        name, _, model = given.partition("=")
        if name not in available():
            raise unknown_name("refiner", name, available())
        backbones[given] = Backbone(adapter=name, **({"model": model} if model else {}))
    page = build(Job(Limits(max_megabytes, max_frames)), backbones)
    typer.echo(f"nc-refiner app: http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it)")
    launch(page, host, port, max_megabytes, password, show)


def _password(host: str, path: Path | None) -> tuple[str, ...]:
    if path is not None:
        user, found, password = path.read_text(encoding="utf-8").strip().partition(":")
        if not (found and user and password):
            raise ValueError(f"{path}: holds no USER:PASSWORD")
        return user, password
    try:
        alone = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"--host is {host!r}; give an IP address or localhost") from None
    if not alone:
        raise ValueError(
            f"--host {host} lets others reach the page; give --password-file FILE with USER:PASSWORD in it"
        )
    return ()
