"""The page in a real browser: run, stop, run again, wipe, downloads, two tabs, files that cannot be taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nc_refiner.cli.main import main
from nc_refiner.video import probe

from ..video.conftest import make_video, moving

pytestmark = pytest.mark.slow
TAKES = 120_000
"""Milliseconds that a run on a busy machine may take."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("gradio", reason="needs the app extra")
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    command = [sys.executable, "-m", "nc_refiner", "app", "--no-open", "--port", str(port), "--max-megabytes", "1"]
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "GRADIO_TEMP_DIR": str(folder)}
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        log.close()
    assert "Traceback" not in (folder / "log").read_text()


class Tab:
    """One tab of the page, with small settings filled in."""

    def __init__(self, browser: Any, address: str, frames: int = 2, **context: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **context})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("#start", timeout=TAKES)
        self.page.click("text=More")
        self.numbers: dict[str, int] = {}
        self.number("frames", frames)
        self.number("steps", 6)
        self.page.locator("#height input").fill("64")
        self.page.locator("#height input").blur()

    def number(self, name: str, value: int) -> None:
        """Fill in a number until the field and its slider keep it.

        The field is there before the page is ready, on a busy machine seconds before, and is then set back.
        """
        self.numbers[name] = value
        fields = [self.page.locator(f"#{name} input[type={kind}]") for kind in ("number", "range")]
        for _ in range(60):
            fields[0].fill(str(value))
            fields[0].blur()
            self.page.wait_for_timeout(300)
            if all(field.input_value() == str(value) for field in fields):
                return
        pytest.fail(f"The page never took {value} for {name}")

    def status(self) -> str:
        return self.page.inner_text("#status")

    def start(self) -> None:
        # What came in between, such as a file, may have found the page not ready yet.
        for name, value in list(self.numbers.items()):
            self.number(name, value)
        self.page.click("#start")

    def until(self, words: str) -> None:
        self.page.wait_for_function(
            "words => document.querySelector('#status').innerText.includes(words)", arg=words, timeout=TAKES
        )

    def upload(self, path: Path, shows: str) -> None:
        """Give the page a file until it shows this.

        The input is there before the page listens to it, on a busy machine seconds before; a person would do it again.
        """
        from playwright.sync_api import TimeoutError as NotSeen

        for _ in range(8):
            self.page.set_input_files("#source input[type=file]", str(path))
            try:
                self.page.wait_for_selector(shows, timeout=TAKES / 8)
                return
            except NotSeen:
                continue
        pytest.fail(f"The page never showed {shows}; the file's box says: {self.page.inner_text('#source')}")

    def close(self, address: str) -> None:
        assert self.errors == []
        assert [url for url in self.asked if not url.startswith((address, "data:", "blob:"))] == []
        self.context.close()


def test_run_wipe_downloads_stop_and_run_again(address, browser, tmp_path):
    tab = Tab(browser, address)
    tab.start()
    tab.until("Done.")
    report = tab.page.frame_locator("iframe.nc-report")
    wipe = report.locator("[role=slider]").first
    wipe.focus()
    before = wipe.get_attribute("aria-valuenow")
    wipe.press("ArrowRight")
    assert wipe.get_attribute("aria-valuenow") != before
    for button, name in (("clip", "refined.mp4"), ("sdedit", "sdedit.mp4"), ("receipt", "receipt.json")):
        with tab.page.expect_download(timeout=TAKES) as waiting:
            tab.page.click(f"#download-{button}")
        target = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(target)
        assert target.name == name and target.stat().st_size > 200
    assert probe(tmp_path / "refined.mp4").frames == 2
    tab.page.click("text=The same in Python")
    tab.page.wait_for_function("document.querySelector('#python').innerText.includes('from_name')", timeout=TAKES)

    tab.number("frames", 48)
    tab.number("steps", 100)
    tab.start()
    tab.until("%")
    tab.page.click("#stop")
    tab.until("Stopped")
    tab.number("frames", 1)
    tab.number("steps", 4)
    tab.start()
    tab.until("Done.")
    tab.close(address)


def test_two_tabs_wait_for_each_other_and_both_get_theirs(address, browser, tmp_path):
    clip = make_video(tmp_path / "mine.mp4", moving(4, 64, 64))
    one, other = Tab(browser, address), Tab(browser, address, frames=3)
    other.upload(clip, "#source >> text=mine.mp4")
    one.start()
    other.start()
    for tab, frames in ((one, 2), (other, 3)):
        tab.until("Done.")
        with tab.page.expect_download(timeout=TAKES) as waiting:
            tab.page.click("#download-clip")
        target = tmp_path / f"{frames}.mp4"
        waiting.value.save_as(target)
        assert probe(target).frames == frames
        tab.close(address)


def test_a_broken_file_and_one_too_large_are_refused_in_words(address, browser, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    tab = Tab(browser, address)
    tab.upload(broken, "#source >> text=broken.mp4")
    tab.start()
    tab.until("broken.mp4")
    assert "Traceback" not in tab.status() and "/" not in tab.status().partition("broken.mp4")[0]
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(3_000_000))
    again = Tab(browser, address)
    again.upload(large, "text=/exceeds|too large|maximum/i")
    again.close(address)
    tab.close(address)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_sees_all_of_it(address, browser, scheme):
    tab = Tab(browser, address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.start()
    tab.until("Done.")
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    colour = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3
    assert light > 200 if scheme == "light" else light < 60
    tab.close(address)


def test_others_are_let_in_with_a_password_only(capsys, tmp_path):
    assert main(["app", "--host", "0.0.0.0", "--no-open"]) == 2
    assert "--password-file" in capsys.readouterr().err
    assert main(["app", "--host", "nowhere.example", "--no-open"]) == 2
    assert "IP address" in capsys.readouterr().err
    (tmp_path / "password").write_text("only a name", encoding="utf-8")
    assert main(["app", "--password-file", str(tmp_path / "password"), "--no-open"]) == 2
    assert "USER:PASSWORD" in capsys.readouterr().err
    assert main(["app", "--refiner", "embeded", "--no-open"]) == 2
    assert "did you mean 'embedded'" in capsys.readouterr().err
