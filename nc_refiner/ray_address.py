"""Which Ray this process has joined, and whether it is the one that is asked for."""

from __future__ import annotations

import socket

__all__ = ["joined_another"]


def joined_another(address: str | None, what: str) -> str | None:
    """What to tell the user where this process has joined another Ray than `what` is to use; None if all is well.

    The addresses `auto` and None take whatever Ray there is.
    """
    import ray

    joined = str(ray.get_runtime_context().gcs_address)
    if address is None or address == "auto" or _same(address, joined):
        return None
    return (
        f"this program has joined the Ray at {joined} already, and {what} is to use the one at {address}; "
        "call ray.shutdown() first, or leave the address out"
    )


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
