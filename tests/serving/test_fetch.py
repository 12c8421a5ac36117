"""Clips by URL: from the named prefixes alone, whatever a URL or a server tries."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nc_refiner.serving import fetch as fetch_module
from nc_refiner.serving.fetch import FetchError, Prefix, TooLarge, fetch

from .conftest import ONE


@pytest.fixture
def web():
    """A web server on this machine; `asked`: what it was asked for."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        clip = b"clip"

        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            kind = self.path.rpartition("/")[2].partition("?")[0]
            if kind == "moved.mp4":
                self.send_response(302)
                self.send_header("Location", "/secret/a.mp4")
                self.end_headers()
            elif kind == "gone.mp4":
                self.send_error(404)
            elif kind == "endless.mp4":
                self.send_response(200)
                self.end_headers()
                for _ in range(10_000):
                    try:
                        self.wfile.write(bytes(65_536))
                    except OSError:
                        return
            elif kind == "slow.mp4":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(1000):
                    try:
                        self.wfile.write(b"x")
                    except OSError:
                        return
                    time.sleep(0.01)
            elif kind == "short.mp4":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x")
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(self.clip)))
                self.end_headers()
                self.wfile.write(self.clip)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.asked, server.handler = asked, Handler
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def got(url, prefix, tmp_path, most=1_000_000, seconds=10.0, private=False):
    fetch(url, [Prefix.parsed(prefix, private)], tmp_path / "clip", most, seconds)
    return (tmp_path / "clip").read_bytes()


def test_a_clip_below_a_prefix_is_fetched(web, tmp_path):
    assert got(f"{web.url}/clips/a.mp4?v=1", f"{web.url}/clips/", tmp_path) == b"clip"
    assert web.asked == [("/clips/a.mp4?v=1", web.url.removeprefix("http://"))]


@pytest.mark.parametrize(
    "path",
    [
        "/secret/a.mp4",
        "/clipsandmore/a.mp4",
        "/clips/../secret/a.mp4",
        "/clips/%2e%2e/secret/a.mp4",
        "/clips/%252e%252e/secret/a.mp4",
        "/clips/..%2fsecret/a.mp4",
        "/clips/..%5csecret/a.mp4",
        "/clips\\..\\secret/a.mp4",
        "/clips/a b.mp4",
        "/clips/a.mp4#x",
        "/clips/\r\nHost: other",
        "/clips/ä.mp4",
    ],
)
def test_what_lies_elsewhere_is_not_even_asked_for(web, tmp_path, path):
    with pytest.raises(FetchError):
        got(f"{web.url}{path}", f"{web.url}/clips/", tmp_path)
    assert web.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user@127.0.0.1:{port}/clips/a.mp4",
        "http://127.0.0.1:{port}@evil.example/clips/a.mp4",
        "http://evil.example/clips/a.mp4",
        "https://127.0.0.1:{port}/clips/a.mp4",
        "http://127.0.0.1/clips/a.mp4",
        "http://2130706433:{port}/clips/a.mp4",
        "http://127.1:{port}/clips/a.mp4",
        "http://[::ffff:127.0.0.1]:{port}/clips/a.mp4",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/clips/a.mp4",
        "//127.0.0.1:{port}/clips/a.mp4",
        "http://127.0.0.1:99999/clips/a.mp4",
        "http://[::1/clips/a.mp4",
        "",
        "x" * 5000,
    ],
)
def test_other_spellings_are_not_taken(web, tmp_path, url):
    with pytest.raises(FetchError):
        got(url.format(port=web.server_port), f"{web.url}/clips/", tmp_path)
    assert web.asked == []


@pytest.mark.parametrize(
    ("name", "told"),
    [("moved.mp4", "redirects"), ("gone.mp4", "answered 404"), ("short.mp4", "arrive whole|cannot be fetched")],
)
def test_a_server_that_does_not_give_the_clip(web, tmp_path, name, told):
    with pytest.raises(FetchError, match=told):
        got(f"{web.url}/clips/{name}", f"{web.url}/clips/", tmp_path)
    assert len(web.asked) == 1


def test_too_much_and_too_slow_are_stopped(web, tmp_path):
    with pytest.raises(TooLarge):
        got(f"{web.url}/clips/endless.mp4", f"{web.url}/clips/", tmp_path, most=200_000)
    assert (tmp_path / "clip").stat().st_size <= 200_000
    with pytest.raises(TooLarge):
        got(f"{web.url}/clips/slow.mp4", f"{web.url}/clips/", tmp_path, most=999)
    with pytest.raises(FetchError, match=r"within 0\.2 seconds"):
        got(f"{web.url}/clips/slow.mp4", f"{web.url}/clips/", tmp_path, seconds=0.2)


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["192.168.0.1"], ["::1"], ["::ffff:10.0.0.1"], ["fd00::1"],
     ["100.64.0.1"], ["0.0.0.0"], ["224.0.0.1"], ["2002:7f00:1::"], ["93.184.216.34", "127.0.0.1"]],
)  # fmt: skip
def test_a_name_that_leads_into_a_private_network_is_refused(web, tmp_path, monkeypatch, addresses):
    def resolved(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", resolved)
    monkeypatch.setattr(fetch_module.socket, "create_connection", lambda *_: pytest.fail("it was connected to"))
    with pytest.raises(FetchError, match="private network"):
        got("https://clips.example/a.mp4", "https://clips.example/", tmp_path)


def test_the_address_that_was_looked_at_is_the_one_connected_to(web, tmp_path, monkeypatch):
    answers = iter([["127.0.0.1"], ["10.9.9.9"], ["10.9.9.9"]])

    def changing(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(answers)]

    connected = []
    real = socket.create_connection
    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", changing)

    def noted(address, timeout):
        connected.append(address)
        sock = socket.socket()
        sock.settimeout(timeout)
        sock.connect(address)
        return sock

    monkeypatch.setattr(fetch_module.socket, "create_connection", noted)
    url = f"http://clips.internal:{web.server_port}"
    assert got(f"{url}/a.mp4", f"{url}/", tmp_path, private=True) == b"clip"
    assert connected == [("127.0.0.1", web.server_port)] and real is not noted
    assert web.asked == [("/a.mp4", f"clips.internal:{web.server_port}")]


def test_a_job_by_url(here, web, mp4):
    server = here(ONE, url_prefixes=[f"{web.url}/clips/"], max_megabytes=0.2)
    web.handler.clip = mp4()
    answer = server.client.post("/v1/jobs", json={"url": f"{web.url}/clips/a.mp4", "settings": {"seed": 1}})
    assert answer.status_code == 202 and server.wait(answer.json()["id"])["state"] == "done"
    for body, status in (
        ({"url": f"{web.url}/secret/a.mp4"}, 422),
        ({"url": f"{web.url}/clips/moved.mp4"}, 422),
        ({"url": f"{web.url}/clips/endless.mp4"}, 413),
        ({"url": 1}, 422),
        ({"url": f"{web.url}/clips/a.mp4", "more": 1}, 422),
        ({"url": f"{web.url}/clips/a.mp4", "settings": {"x": 1}}, 422),
        ([], 422),
    ):
        assert server.client.post("/v1/jobs", json=body).status_code == status, body
    assert not any(path.startswith("/secret") for path, _ in web.asked)
