"""Where a server of ours listens, and who can reach it there."""

from __future__ import annotations

import socket
from ipaddress import ip_address

__all__ = ["is_loopback", "listening"]


def listening(host: str, port: int, remedy: str) -> socket.socket:
    """A socket that listens on `host` and `port` (0: any free one).

    Raises:
        ValueError: it cannot; the message ends with `remedy`.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"cannot listen on {host}, port {port}: {reason}; {remedy}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
