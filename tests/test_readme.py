"""The README's promises: its Python example runs, its commands exist, its picture is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs(monkeypatch, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert (tmp_path / "refined.mp4").is_file()
    assert (tmp_path / "refined.json").is_file()


@pytest.mark.parametrize("marker", ["demo-command", "test-command"])
def test_commands_are_marked_for_ci(marker):
    block = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)\n```", README, flags=re.DOTALL)
    assert block is not None
    assert "constraints.txt" in block[1]


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), f"README links to {target}, which is not there"
