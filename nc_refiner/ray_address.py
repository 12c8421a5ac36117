"""Which Ray this process has joined, and whether it is the one that is asked for."""

from __future__ import annotations

import socket

__all__ = ["joined_instead_of"]


def joined_instead_of(address: str | None) -> str | None:
    """The address of the Ray that this process has joined, where `address` names another; None if all is well.

    `auto` and None take whatever Ray there is.
    """
    import ray

    joined = str(ray.get_runtime_context().gcs_address)
    return None if address is None or address == "auto" or _same(address, joined) else joined


def _same(one: str, other: str) -> bool:
    """Whether two addresses are one: Ray knows a machine by its number, people by its name or as this one."""

    def place(address: str) -> tuple[str, str]:
        host, _, port = address.rpartition(":")
        try:
            return socket.gethostbyname(host), port
        except OSError:
            return host, port

    (host, port), (other_host, other_port) = place(one), place(other)
    return port == other_port and (host == other_host or host.startswith("127."))
