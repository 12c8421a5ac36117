"""Clips by URL: from prefixes the file names and from nowhere else. No redirects, no way into a private network."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["FetchError", "Prefix", "TooLarge", "fetch"]

BLOCK = 1 << 16
PORTS = {"http": 80, "https": 443}
PLAIN = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")
"""What the path of a URL is made of."""


class FetchError(ValueError):
    """A clip that is not fetched; the message is one line for the client."""


class TooLarge(FetchError):
    """The file is larger than the limit."""


@dataclass(frozen=True)
class Prefix:
    """The beginning of the addresses that may be fetched.

    Attributes:
        scheme: `http` or `https`. host: lower case. port: a number. path: begins and ends with `/`.
        private: whether the host may be in a private network.
    """

    scheme: str
    host: str
    port: int
    path: str
    private: bool = False

    @classmethod
    def parsed(cls, text: str, private: bool = False) -> Prefix:
        """The prefix that `text` writes; ValueError where it is none."""
        try:
            scheme, host, port, path, query = _parts(text)
        except ValueError as error:
            raise ValueError(f"url_prefixes: {text!r}: {error}") from None
        if not path.endswith("/") or query:
            raise ValueError(f"url_prefixes: {text!r} must end with /, so that it names a whole folder or host")
        return cls(scheme, host, port, path, private or _named(host))

    def covers(self, url: str) -> bool:
        """Whether `url` begins with this prefix; ValueError for a URL that is none."""
        scheme, host, port, path, _ = _parts(url)
        return (scheme, host, port) == (self.scheme, self.host, self.port) and path.startswith(self.path)


def _named(host: str) -> bool:
    """Whether a host is an address, or this machine: whoever writes that into the file means it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _parts(url: str) -> tuple[str, str, int, str, str]:
    if len(url) > 4000 or any(ord(letter) < 33 or ord(letter) > 126 for letter in url) or "\\" in url:
        raise ValueError("it is no URL of plain characters")
    found = urlsplit(url)
    scheme = found.scheme.lower()
    if scheme not in PORTS or not found.hostname:
        raise ValueError("it must begin with https:// or http:// and a host")
    if found.username is not None or found.password is not None or "@" in found.netloc:
        raise ValueError("it must not hold a user or password")
    if found.fragment:
        raise ValueError("it must not hold a #")
    path = found.path or "/"
    # Steps upwards are refused in every spelling, also in one that a server decodes twice.
    plain = unquote(unquote(path))
    if not PLAIN.fullmatch(path) or "\\" in plain or {".", ".."} & set(plain.split("/")):
        raise ValueError("its path holds steps such as .. or strange characters")
    return scheme, found.hostname.lower().rstrip("."), found.port or PORTS[scheme], path, found.query


def fetch(url: str, prefixes: list[Prefix], target: Path, most: int, seconds: float) -> None:
    """Write what `url` holds into the file `target`.

    Args:
        url: the address.
        prefixes: one of them must cover it.
        target: is written over.
        most: bytes, at most.
        seconds: how long it may take.

    Raises:
        FetchError: not allowed, not there, or too slow. TooLarge: more than `most` bytes.
    """
    try:
        prefix = next((one for one in prefixes if one.covers(url)), None)
        scheme, host, port, path, query = _parts(url)
    except ValueError as error:
        raise FetchError(f"url: {error}") from None
    if prefix is None:
        raise FetchError("url: clips are not fetched from there; this server names the addresses that it takes")
    ends = time.monotonic() + seconds
    connection = _Pinned(scheme, host, port, _address(host, port, prefix.private), seconds)
    try:
        connection.request("GET", path + (f"?{query}" if query else ""), headers={"Accept-Encoding": "identity"})
        answer = connection.getresponse()
        if 300 <= answer.status < 400:
            raise FetchError("url: it redirects elsewhere, which is not followed; give the final address")
        if answer.status != 200:
            raise FetchError(f"url: its server answered {answer.status}")
        length = answer.getheader("Content-Length")
        if length is not None and length.isdecimal() and int(length) > most:
            raise TooLarge("url: the clip is larger than this server takes")
        _copy(answer, target, most, ends)
        if length is not None and length.isdecimal() and target.stat().st_size != int(length):
            raise FetchError("url: the clip did not arrive whole")
    except FetchError:
        raise
    except TimeoutError:
        raise FetchError(f"url: not fetched within {seconds:g} seconds") from None
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"url: it cannot be fetched ({type(error).__name__})") from None
    finally:
        connection.close()


def _copy(answer: http.client.HTTPResponse, target: Path, most: int, ends: float) -> None:
    written = 0
    with target.open("wb") as file:
        while block := answer.read1(BLOCK):
            written += len(block)
            if written > most:
                raise TooLarge("url: the clip is larger than this server takes")
            if time.monotonic() > ends:
                raise TimeoutError
            file.write(block)


def _address(host: str, port: int, private: bool) -> str:
    """An address of `host` that may be connected to. Every address it has must be public, and the one that was looked
    at is the one connected to, so that a name cannot change its mind in between."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:
        raise FetchError(f"url: the host {host} is not known") from None
    if not private:
        for text in found:
            address = ipaddress.ip_address(text.partition("%")[0])
            inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
            if not (address.is_global and inner.is_global) or address.is_multicast:
                raise FetchError(f"url: the host {host} leads into a private network")
    return found[0]


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, in the name of a host."""

    def __init__(self, scheme: str, host: str, port: int, address: str, seconds: float):
        super().__init__(host, port, timeout=seconds)
        self._address, self._context = address, ssl.create_default_context() if scheme == "https" else None
        # The Host header leaves the scheme's own port out.
        self.default_port = PORTS[scheme]

    def connect(self) -> None:
        sock: Any = socket.create_connection((self._address, self.port), self.timeout)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_hostname=self.host)
        self.sock = sock
