"""A slow or silent client holds no connection for long, and many of them do not lock anybody out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from nc_refiner.experiment.study.patience import impatient

uvicorn = pytest.importorskip("uvicorn", reason="needs the study extra")
LIMIT, WAIT = 8, 0.5


async def _app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        _app, log_level="critical", http=impatient(WAIT), limit_concurrency=LIMIT, lifespan="off", timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def _ask(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, timeout=20) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return one.makefile("rb").readline()


def _closed_within(one: socket.socket, seconds: float) -> bool:
    one.settimeout(seconds)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_headers_that_never_end_and_connections_that_say_nothing(address):
    slow = socket.create_connection(address)
    slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    silent = socket.create_connection(address)
    served = socket.create_connection(address)
    served.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok"):
        answer += (part := served.recv(100))
        assert part, answer
    assert answer.startswith(b"HTTP/1.1 200")
    served.sendall(b"GET / HTTP/1.1\r\n")
    for one in (slow, silent, served):
        with one:
            assert _closed_within(one, 20)


def test_many_silent_connections_lock_nobody_out(address):
    crowd = [socket.create_connection(address) for _ in range(3 * LIMIT)]
    assert _ask(address).startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
    deadline = time.monotonic() + 30
    while not _ask(address).startswith(b"HTTP/1.1 200"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for one in crowd:
        with one:
            assert _closed_within(one, 20)
