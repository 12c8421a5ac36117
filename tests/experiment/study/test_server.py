"""The server: nothing but the study's clips, nothing that tells an arm, nothing but valid votes of its own page."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import av
import pytest
from starlette.testclient import TestClient

from nc_refiner.experiment.store import open_store
from nc_refiner.experiment.study.clips import read_material
from nc_refiner.experiment.study.guard import Buckets
from nc_refiner.experiment.study.playable import playable
from nc_refiner.experiment.study.server import create_app
from nc_refiner.experiment.study.sessions import Gallery, alias_of, cookie_of, rater_of
from nc_refiner.experiment.study.votes import VoteBook, open_study

from .conftest import tinted

BASE = "http://127.0.0.1"


class Site:
    """A study on a store, and clients of it."""

    def __init__(self, folder, url, **limits):
        material = read_material(folder)
        self.store = open_store(url)
        self.study = open_study(self.store, "nc_study", material)
        self.book = VoteBook(self.store, "nc_study")
        files = [path for item in material.items for path in (item.input, *item.outputs.values())]
        self.gallery = Gallery(self.study, material.items, {path: playable(path, folder, "copy") for path in files})
        self.app = create_app(self.gallery, self.book, ["127.0.0.1"], **limits)

    def client(self, alias: str | None = None) -> TestClient:
        client = TestClient(self.app, base_url=BASE)
        if alias:
            assert client.post("/api/rater", json={"alias": alias}).status_code == 200
        return client


@pytest.fixture
def site(folder, tmp_path):
    site = Site(folder, tmp_path / "votes.db")
    yield site
    site.store.close()


def ballot(client, **changes):
    pair = client.get("/api/state").json()["next"]["id"]
    return {"pair": pair, "question": "quality", "choice": "a", "seconds": 1.5, **changes}


def test_a_vote_is_stored_once_replaced_and_resumed(folder, url):
    site = Site(folder, url)
    ann = site.client("Ann")
    state = ann.get("/api/state").json()
    assert (state["total"], state["done"], state["rater"]) == (4, 0, "ann")
    for choice in ("a", "b", "b"):
        assert ann.post("/api/vote", json=ballot(ann, choice=choice)).json() == {"saved": True}
    (vote,) = site.book.all()
    shown = site.gallery.comparisons("ann")[state["next"]["id"]].shown
    assert (vote.choice, vote.left_arm, vote.right_arm) == (shown.right, shown.left, shown.right)
    assert vote.clip == vote.pair == shown.pair and vote.seconds == 1.5
    for question in ("consistency", "texture"):
        ann.post("/api/vote", json=ballot(ann, question=question))
    site.store.close()
    again = Site(folder, url)
    back = again.client("  ANN ")
    state = back.get("/api/state").json()
    assert state["done"] == 1 and state["next"]["answers"] == {}
    with pytest.raises(ValueError, match="begun with other seed"):
        open_study(again.store, "nc_study", read_material(folder), seed=again.study.seed ^ 1)
    with pytest.raises(ValueError, match="begun with other control"):
        open_study(again.store, "nc_study", read_material(folder, ["sdedit_arm", "nc_arm"]))
    (folder / "input" / "camel0.mp4").write_bytes((folder / "nc_arm" / "camel0.mp4").read_bytes())
    with pytest.raises(ValueError, match="begun with other clips"):
        open_study(again.store, "nc_study", read_material(folder))
    again.store.close()


def test_no_answer_tells_an_arm(site, folder):
    secrets = [b"sdedit", b"nc_", b"camel", str(folder).encode(), b"votes.db"]
    texts = []

    def seen(answer):
        heads = json.dumps([str(answer.url), *map(list, answer.headers.items())]).encode()
        texts.append((heads + answer.content).lower())
        return answer

    names = set()
    for alias in ("ann", "bob"):
        client = site.client()
        for path in ("/", "/static/study.js", "/static/study.css", "/nope", "/clip/x"):
            seen(client.get(path))
        state = seen(client.post("/api/rater", json={"alias": alias})).json()
        seen(client.post("/api/vote", json=ballot(client, choice="sdedit")))
        while state["next"]:
            answers = [seen(client.get("/" + name)) for name in state["next"]["clips"].values()]
            names |= {*state["next"]["clips"].values(), state["next"]["id"]}
            assert {answer.headers["last-modified"] for answer in answers} == {"Thu, 01 Jan 1970 00:00:00 GMT"}
            for question in ("consistency", "quality", "texture"):
                seen(client.post("/api/vote", json=ballot(client, question=question)))
            state = seen(client.get("/api/state")).json()
    for text in texts:
        assert not [secret for secret in secrets if secret.lower() in text]
    # Names of one rater say nothing to another.
    assert len(names) == 2 * 4 * 4


def test_only_the_studys_clips_are_read(site, folder):
    (folder.parent / "secret.mp4").write_bytes(b"secret")
    ann, bob = site.client("ann"), site.client("bob")
    own = ann.get("/api/state").json()["next"]["clips"]["a"]
    assert ann.get("/" + own).status_code == 200
    assert bob.get("/" + own).status_code == 404 and site.client().get("/" + own).status_code == 401
    tries = [
        "../secret.mp4",
        "../../etc/passwd",
        "input/camel0.mp4",
        str(folder / "input/camel0.mp4"),
        "camel0",
        "x" * 5000,
    ]
    tries += [own[5:-1], own[5:] + "x", own[5:] + "/../../secret.mp4", "\0", own[5:] + "\0", "é", "..\\secret.mp4", ""]
    cookie = f"{next(iter(ann.cookies))}={cookie_of('ann')}"
    assert raw(site.app, "/" + own, cookie)[0] == 200
    for attempt in tries:
        for prefix in ("/clip/", "/static/", "/"):
            status, body = raw(site.app, prefix + attempt, cookie)
            index = prefix + attempt in ("/", "//")
            assert (status == 200) == index and b"secret" not in body and b"ftyp" not in body


def raw(app, path: str, cookie: str) -> tuple[int, bytes]:
    """GET exactly `path`, decoded, as a server hands it on: clients and URL parsers tidy up `..` on the way."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"cookie", cookie.encode())],
        "client": ("10.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    # In a thread of its own: a browser started by another test keeps this one's event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, app(scope, receive, send)).result()
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_ranges_are_served(site):
    ann = site.client("ann")
    path = "/" + ann.get("/api/state").json()["next"]["clips"]["input"]
    whole = ann.get(path)
    assert whole.headers["accept-ranges"] == "bytes" and whole.headers["content-type"] == "video/mp4"
    part = ann.get(path, headers={"range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole.content[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    assert ann.get(path, headers={"range": f"bytes={10**9}-"}).status_code == 416


@pytest.mark.parametrize(
    "changes",
    [
        {"pair": "x" * 20}, {"pair": "../../etc/passwd"}, {"pair": 3}, {"question": "beauty"}, {"choice": "left"},
        {"choice": "nc_arm"}, {"seconds": -1}, {"seconds": 1e9}, {"seconds": "soon"}, {"more": 1}, {"seconds": None},
    ],
)  # fmt: skip
def test_bad_votes_are_refused(site, changes):
    ann = site.client("ann")
    assert ann.post("/api/vote", json=ballot(ann, **changes)).status_code in (404, 422)
    assert site.book.all() == []


def test_a_vote_needs_a_rater_and_his_own_pair(site):
    ann, bob = site.client("ann"), site.client("bob")
    given = ballot(ann)
    assert bob.post("/api/vote", json=given).status_code == 404
    assert site.client().post("/api/vote", json=given).status_code == 401
    assert ann.post("/api/vote", content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert site.book.all() == []


@pytest.mark.parametrize("alias", ["", " ", "x" * 41, "a/b", "<b>", "-x", "a\x00b", "a;b", 3, "x" * 5000])
def test_bad_names_are_refused(site, alias):
    answer = site.client().post("/api/rater", json={"alias": alias})
    assert answer.status_code in (413, 422) and "set-cookie" not in answer.headers and "error" in answer.json()


def test_names_become_raters():
    assert alias_of("  Ann\tLee ") == "ann lee" and alias_of("Zoë") == "zoë" and alias_of("नमस्ते") == "नमस्ते"
    assert rater_of(cookie_of("zoë")) == "zoë"
    for bad in ("", "!!", "é", cookie_of("a/b"), cookie_of("x" * 60)):
        assert rater_of(bad) is None


def test_a_rater_without_a_name_comes_back(site):
    client = site.client()
    rater = client.post("/api/rater", json={}).json()["rater"]
    assert rater.startswith("anonymous-") and client.get("/api/state").json()["rater"] == rater
    assert client.post("/api/leave", json={}).status_code == 200
    assert client.get("/api/state").json() == {"rater": None}
    cookie = site.client().post("/api/rater", json={"alias": "ann"}).headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie


def test_other_sites_are_refused(site):
    ann = site.client("ann")
    given = ballot(ann)
    body = json.dumps(given).encode()
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "origin": "http://evil.example"},
        {"content-type": "application/json", "origin": "null"},
        {"content-type": "application/json", "sec-fetch-site": "cross-site"},
    ):
        assert ann.post("/api/vote", content=body, headers=headers).status_code == 403
    assert site.book.all() == []
    for name in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil", ""):
        answer = ann.get("/", headers={"host": name})
        assert answer.status_code == 400 and answer.headers["x-content-type-options"] == "nosniff"
    same = {"content-type": "application/json", "origin": BASE, "sec-fetch-site": "same-origin"}
    assert ann.post("/api/vote", content=body, headers=same).status_code == 200


def test_headers_bodies_and_docs(site):
    client = site.client()
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["referrer-policy"] == "no-referrer" and "http" not in page.text.replace("http-equiv", "")
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404
    long = b'{"alias": "' + b"a" * 5000 + b'"}'
    json_type = {"content-type": "application/json"}
    assert client.post("/api/rater", content=long, headers=json_type).status_code == 413
    assert (
        client.post("/api/rater", content=(long[i : i + 99] for i in range(0, 5000, 99)), headers=json_type).status_code
        == 413
    )


def test_too_many_requests_are_told_to_wait(folder, tmp_path):
    site = Site(folder, tmp_path / "votes.db", rate=0.01, burst=5)
    client = site.client()
    codes = [client.get("/").status_code for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2
    answer = client.get("/")
    assert int(answer.headers["retry-after"]) > 1 and answer.headers["x-content-type-options"] == "nosniff"


def test_buckets_refill_and_are_bounded():
    now = [0.0]
    buckets = Buckets(2.0, 3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert buckets.take("a") == 0 and buckets.take("a") == pytest.approx(0.5)
    for client in "bcd":
        now[0] += 0.4
        buckets.take(client)
    assert buckets._left.keys() == {"a", "c", "d"}, "those that are full again are forgotten"


def test_a_database_that_is_gone_saves_nothing_and_says_so(site, monkeypatch):
    from sqlalchemy.exc import OperationalError

    ann = site.client("ann")
    given = ballot(ann)

    def broken(*_, **__):
        raise OperationalError("INSERT", {}, Exception("no connection to sdedit"))

    monkeypatch.setattr(site.store, "write", broken)
    answer = ann.post("/api/vote", json=given)
    assert answer.status_code == 503 and "not saved" in answer.json()["error"] and "sdedit" not in answer.text


@pytest.mark.parametrize("how", ["removed", "replaced", "emptied"])
def test_votes_are_refused_while_the_database_is_not_the_one(site, how, tmp_path):
    """Nothing is acknowledged that is nowhere; once the database is back, votes are taken again."""
    path, aside = tmp_path / "votes.db", tmp_path / "aside.db"
    ann = site.client("ann")
    given = ballot(ann)
    assert ann.post("/api/vote", json=given).json() == {"saved": True}
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(aside)) as target:
        source.backup(target)
    if how == "emptied":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.truncate(path, 0)
    else:
        path.unlink()
        if how == "replaced":
            open_store(path).close()
    for question in ("texture", "quality"):
        answer = ann.post("/api/vote", json={**given, "question": question})
        assert answer.status_code == 503 and "not saved" in answer.json()["error"]
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    os.replace(aside, path)
    assert ann.post("/api/vote", json={**given, "question": "texture"}).json() == {"saved": True}
    assert [vote.question for vote in VoteBook(open_store(path), "nc_study").all()] == ["quality", "texture"]


def test_what_browsers_cannot_play_or_must_not_read_is_converted(tmp_path):
    for name, codec, fmt, tags in (
        ("a.mkv", "ffv1", "yuv444p", {}),
        ("b.mp4", "libx264", "yuv420p", {"title": "made by nc_arm"}),
    ):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            container.metadata.update(tags)
            stream = container.add_stream(codec, rate=12)
            stream.width, stream.height, stream.pix_fmt = 96, 64, fmt
            for frame in tinted((0.8, 0.2, 0.1), 6):
                array = (frame.permute(1, 2, 0) * 255).byte().numpy()
                container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
            container.mux(stream.encode(None))
        found = playable(path, tmp_path, f"copy_{name[0]}")
        assert found.converted and found.frames == 6 and found.fps == 12 and b"nc_arm" not in found.path.read_bytes()
        assert not playable(found.path, tmp_path, "again").converted
