"""A study in a folder, served until it is stopped."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...evaluation.extras import load
from ..store import open_store
from .clips import read_material
from .listening import is_loopback, listening
from .patience import CONNECTIONS, SECONDS, impatient
from .playable import Playable, playable

__all__ = ["DATABASE", "Served", "is_loopback", "serve"]

DATABASE = "study.db"
"""Votes are kept in this file of the folder unless another store is given."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Served:
    """What is being served: the study's name, its URLs, the store, comparisons per rater, and remarks for its owner."""

    study: str
    urls: tuple[str, ...]
    store: str
    comparisons: int
    notes: tuple[str, ...]


def serve(
    folder: Path,
    *,
    store: str | None = None,
    name: str | None = None,
    arms: Sequence[str] | None = None,
    seed: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    allowed: Sequence[str] = (),
    ready: Callable[[Served], None] | None = None,
) -> None:
    """Serve the study of the clips in `folder` until interrupted.

    Args:
        folder: as `read_material` takes it.
        store: URL, or path of an SQLite file; by default `study.db` in the folder.
        name: of the study; by default the experiment's.
        arms: to compare; by default all.
        seed: of sides and orders; by default the study's own.
        host, port: to listen on; port 0 is any free one.
        allowed: further names that raters reach this machine by.
        ready: called once it listens.

    Raises:
        ValueError: bad clips, arms or names; the study was begun otherwise; the address cannot be listened on.
        ImportError: a package of the `study` extra is missing.
    """
    for package in ("fastapi", "jinja2", "sqlalchemy"):
        load(package, "study")
    uvicorn = load("uvicorn", "study")
    from .server import create_app
    from .sessions import Gallery
    from .votes import VoteBook, open_study

    material = read_material(folder, arms)
    with tempfile.TemporaryDirectory(prefix="nc_refiner_study_") as converted:
        clips: dict[Path, Playable] = {}
        for number, item in enumerate(material.items):
            for slot, path in enumerate((item.input, *item.outputs.values())):
                clips[path] = playable(path, Path(converted), f"{number}_{slot}")
        with (
            listening(host, port, "choose another --port or --host") as listener,
            closing(open_store(store or folder / DATABASE)) as database,
        ):
            study = open_study(database, material.name if name is None else name, material, seed)
            gallery = Gallery(study, material.items, clips)
            hosts = _hosts(host, allowed)
            app = create_app(gallery, VoteBook(database, study.name), hosts)
            chosen = listener.getsockname()[1]
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=3,
                http=impatient(SECONDS),
                limit_concurrency=CONNECTIONS,
            )
            if ready is not None:
                urls = tuple(f"http://{_bracketed(shown)}:{chosen}/" for shown in _shown(host, hosts))
                ready(
                    Served(study.name, urls, database.name, study.comparisons, tuple(_notes(material.skipped, clips)))
                )
            uvicorn.Server(config).run(sockets=[listener])


def _hosts(host: str, allowed: Sequence[str]) -> list[str]:
    """What the Host header may say; a page of another site that points its name here is then refused."""
    found = [*LOOPBACK, *allowed]
    if host in ("0.0.0.0", "::"):
        found.append(socket.gethostname())
        found += _addresses()
    elif host not in found:
        found.append(host)
    # As the header spells them.
    return [_bracketed(name) for name in dict.fromkeys(found)]


def _addresses() -> list[str]:
    """This machine's own addresses, as far as it knows them."""
    found = []
    try:
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)]
    except OSError:
        found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: it only asks which of our addresses the way out has.
            probe.connect(("192.0.2.1", 9))
            found.append(probe.getsockname()[0])
        except OSError:
            return found
    return found


def _shown(host: str, hosts: list[str]) -> list[str]:
    if host not in ("0.0.0.0", "::"):
        return [host]
    return ["127.0.0.1", *(name for name in hosts if not is_loopback(name.strip("[]")))]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _notes(skipped: tuple[str, ...], clips: dict[Path, Playable]) -> list[str]:
    found = []
    if skipped:
        found.append(f"{len(skipped)} left out, without a clip of the input and every arm: {', '.join(skipped[:3])}")
    converted = sum(clip.converted for clip in clips.values())
    if converted:
        found.append(f"{converted} of {len(clips)} clips are shown as H.264 copies, without sound and metadata")
    return found
