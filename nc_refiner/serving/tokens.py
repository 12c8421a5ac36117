"""Who may ask: a token where others can reach the server, no page of another site, no foreign name."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..experiment.study.listening import is_loopback
from .config import Server

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["OPEN", "Gate", "host_names", "token_of"]

OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
"""Paths that show nothing of anyone's and need no token."""
SHORTEST = 16
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def token_of(server: Server, environment: Mapping[str, str] | None = None) -> str | None:
    """The token that clients must show; None where there is none and only this machine can reach the server.

    Raises:
        ValueError: none where others can reach it, or one that is easily guessed.
    """
    found = (os.environ if environment is None else environment).get(server.token_env, "").strip()
    if not found:
        if is_loopback(server.host):
            return None
        raise ValueError(
            f"serve.host {server.host} lets others reach the server; set the environment variable "
            f"{server.token_env} to a secret that clients must show, for example: "
            f"export {server.token_env}=$(openssl rand -hex 32)"
        )
    if len(found) < SHORTEST or not found.isascii() or any(letter.isspace() for letter in found):
        raise ValueError(f"{server.token_env} must hold at least {SHORTEST} plain characters without spaces")
    return found


def host_names(server: Server, token: str | None) -> frozenset[str] | None:
    """What the Host header may say, lower case and without a port; None: anything, since a token is asked for."""
    if token is not None and not server.hosts:
        return None
    return frozenset(name.lower() for name in ("127.0.0.1", "localhost", "::1", server.host, *server.hosts))


class Gate:
    """ASGI middleware; must be the outermost one.

    Args:
        app: what it guards.
        token: None: none is asked for.
        hosts: as `host_names`.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str] | None):
        self.app, self._hosts = app, hosts
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, 403 or 421, or pass the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {key.decode("latin-1").lower() for key, _ in message["headers"]}
                ours = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key not in there]
                message = {**message, "headers": [*message["headers"], *ours]}
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, guarded)
            return
        status, why = refusal
        body = json.dumps({"error": why}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await guarded({"type": "http.response.start", "status": status, "headers": headers})
        await guarded({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        host = headers.get("host", "").lower()
        if self._hosts is not None and _bare(host) not in self._hosts:
            return 421, "this server does not go by that name; add it to serve.hosts"
        origin = headers.get("origin")
        # A page of another site that a browser on this machine has open.
        if scope["method"] not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc.lower() != host:
            return 403, "requests from other sites' pages are not taken"
        if self._token is None or scope["path"] in OPEN:
            return None
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(shown.strip().encode("latin-1"), self._token):
            return None
        return 401, "show the server's token: Authorization: Bearer TOKEN"


def _bare(host: str) -> str:
    """A Host header without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
