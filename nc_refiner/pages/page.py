"""One HTML file from a template, the shared parts, and what the page alone has."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from .._version import __version__

__all__ = ["look", "render"]

SCRIPTS = ("change.js", "player.js")


def _text(package: str, folder: str, name: str) -> str:
    return (files(package) / folder / name).read_text(encoding="utf-8")


def look() -> str:
    """The stylesheet that all pages share."""
    return _text(__package__ or "", "parts", "look.css")


def _hash(text: str) -> str:
    """As a Content Security Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def render(
    template: str,
    package: str,
    players: Sequence[Mapping[str, Any]],
    videos: Mapping[str, str],
    script: str = "",
    notes: Sequence[str] = (),
    **values: Any,
) -> str:
    """The page.

    Args:
        template: a file in the folder `templates` of `package`, which extends `shell.html` and may import `parts.html`.
        package: dotted name.
        players: what each player of the page is given, in the order of their numbers; JSON-ready.
        videos: key → base64 of an mp4, as `Embedded` gives them.
        script: file in the same folder with what this page alone does; empty: nothing.
        notes: sentences on what was left out.
        values: for the template.

    Raises:
        ImportError: Jinja2 is not installed.
    """
    import jinja2

    own = [_text(package, "templates", script)] if script else []
    parts = [*(_text(__package__ or "", "parts", name) for name in SCRIPTS), *own]
    code = "\n".join(['"use strict";', "(() => {", *parts, "})();"])
    style = look()
    loaders = [jinja2.PackageLoader(package), jinja2.PackageLoader(__package__ or "", "parts")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(
        version=__version__,
        players=json.dumps(list(players)).replace("<", "\\u003c"),
        videos=videos,
        notes=list(notes),
        style=style,
        script=code,
        style_hash=_hash(style),
        script_hash=_hash(code),
        **values,
    )
