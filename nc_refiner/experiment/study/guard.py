"""What every request passes first: a rate limit, a bound on its body, no foreign origin; headers on every answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Buckets", "Guard"]

MAX_BODY = 4096
"""Bytes; a vote has about 150."""
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-robots-tag": "noindex",
}


class Buckets:
    """A token bucket per client; those that are full again are forgotten.

    Args:
        rate: requests per second that go on for ever, > 0.
        burst: requests that may come at once, at least 1.
        clock: seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> float:
        """0 if the request may pass, else the seconds until one may."""
        now = self.clock()
        left = {name: tokens + (now - last) * self.rate for name, (tokens, last) in self._left.items()}
        self._left = {name: (tokens, now) for name, tokens in left.items() if tokens < self.burst}
        tokens = min(self.burst, left.get(client, self.burst))
        self._left[client] = (tokens - 1 if tokens >= 1 else tokens, now)
        return 0.0 if tokens >= 1 else (1 - tokens) / self.rate


class Guard:
    """ASGI middleware; must be the outermost one.

    Args:
        app: what it guards.
        buckets: of requests per client address.
    """

    def __init__(self, app: ASGIApp, buckets: Buckets):
        self.app, self.buckets = app, buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429, 413 or 403, or pass the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = [(key, value) for key, value in message["headers"] if key.decode().lower() not in HEADERS]
                ours = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*there, *ours]}
            await send(message)

        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        wait = self.buckets.take(scope["client"][0] if scope.get("client") else "")
        if wait:
            await _refuse(guarded, 429, "too many requests; wait a moment", {"retry-after": str(int(wait) + 1)})
            return
        if scope["method"] not in ("GET", "HEAD"):
            if _foreign(headers):
                await _refuse(guarded, 403, "votes are taken from the study's own page only")
                return
            body = await _body(receive, headers)
            if body is None:
                await _refuse(guarded, 413, f"the body is longer than {MAX_BODY} bytes")
                return
            receive = _replayed(body, receive)
        await self.app(scope, receive, guarded)


def _foreign(headers: dict[str, str]) -> bool:
    """Whether another site's page sent it, or could have without asking first."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    # Browsers send no other type across sites than a form's without a preflight, which no one here answers.
    if kind != "application/json":
        return True
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


async def _body(receive: Receive, headers: dict[str, str]) -> bytes | None:
    """The whole body; None as soon as it is too long."""
    stated = headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > MAX_BODY:
        return None
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, why: str, extra: dict[str, str] | None = None) -> None:
    body = json.dumps({"error": why}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **(extra or {})}
    encoded = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
