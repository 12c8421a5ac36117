"""The notebook runs as it stands and holds its pictures; the hosted demo builds its page."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOK = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_holds_what_it_shows() -> None:
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    shown: list[Path] = []
    # What a notebook server brings along: here the picture is opened instead of shown.
    display = types.ModuleType("IPython.display")
    display.Image = lambda filename: shown.append(Path(filename)) or Image.open(filename).verify()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names: dict[str, Any] = {}
    for cell in CODE:
        exec("".join(cell["source"]), names)
    assert len(shown) == 1
    losses = names["calibrated"].trace.content_loss
    assert losses[-1] < losses[0]
    assert "ssim" in capsys.readouterr().out
    assert (names["folder"] / "refined.mp4").is_file()


def test_the_hosted_demo_builds_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="needs the app extra")
    import runpy

    import nc_refiner.app

    launched: list[tuple[Any, ...]] = []
    monkeypatch.setattr(nc_refiner.app, "launch", lambda *given: launched.append(given))
    runpy.run_path(str(EXAMPLES / "hosted_demo.py"), run_name="__main__")
    ((page, host, port, megabytes),) = launched
    assert host == "0.0.0.0" and port == 7860 and megabytes == 20 and page.title == "nc-refiner"
