"""How long the study's server waits for a request to be finished, and how many connections it holds."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["CONNECTIONS", "SECONDS", "impatient"]

SECONDS = 10.0
CONNECTIONS = 256
"""Open at a time; a browser holds about six, so this is some forty raters."""


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol, closing a connection on which no request was finished for `seconds`: uvicorn's own
    time-out begins after the first answer only."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _seen: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(seconds, self._look)

        def _look(self) -> None:
            if self.transport.is_closing():
                return
            waiting = self.cycle is None or self.cycle.response_complete
            if waiting and self.cycle is self._seen:
                self.transport.close()
                return
            self._seen = self.cycle
            self.loop.call_later(seconds, self._look)

    return Impatient
