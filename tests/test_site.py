"""The documentation: its links lead somewhere, its snippets run, its generated pages are fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import nc_refiner
from nc_refiner.cascade.config import load_config
from nc_refiner.clip import VideoClip
from nc_refiner.video import write_clip

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))
TEXTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES)}


def snippets(name: str) -> list[tuple[Path, str]]:
    """Every block marked `name`, wherever it stands."""
    pattern = rf"<!-- snippet: {re.escape(name)} -->\n```\w+\n(.*?)```"
    found = [(path, text) for path, whole in TEXTS.items() for text in re.findall(pattern, whole, flags=re.DOTALL)]
    assert found, name
    return found


def headings(text: str) -> set[str]:
    """Anchors of a page, as its headings make them."""
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = re.findall(r"^#+ (.*)$", plain, flags=re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", one.lower()).strip()) for one in found}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    plain = re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", plain):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in headings(path.read_text(encoding="utf-8")), f"{page.name}: no heading {target}"


def test_every_page_is_in_the_navigation() -> None:
    def names(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        return [name for value in (part.values() if isinstance(part, dict) else part) for name in names(value)]

    nav = names(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(nav) == sorted(str(path.relative_to(DOCS)) for path in PAGES)


def test_the_reference_is_fresh() -> None:
    command = [sys.executable, "tools/site_reference.py", "--check"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", ["cascade", "cascade-config"])
def test_configs_check(name: str, tmp_path: Path) -> None:
    for _, text in snippets(name):
        path = tmp_path / "cascade.yaml"
        path.write_text(text, encoding="utf-8")
        config = load_config(path)
        assert config.refiner is not None


def clips(folder: Path, count: int) -> None:
    """Small clips of moving colour."""
    folder.mkdir()
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        still = torch.nn.functional.interpolate(torch.rand((1, 3, 6, 8), generator=generator), size=(32, 40))[0]
        frames = torch.stack([still.roll(shift, 2) for shift in range(3)])
        write_clip(VideoClip(frames, 8.0), folder / f"clip_{number}.mp4")


def test_the_first_experiment_ends_in_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The page's own file and commands, on eight small clips."""
    from nc_refiner.cli.main import main

    pytest.importorskip("sqlalchemy", reason="needs the experiment extra")
    texts = {text for _, text in snippets("experiment")}
    assert len(texts) == 1, "the same file on every page"
    (text,) = texts
    monkeypatch.chdir(tmp_path)
    clips(tmp_path / "clips", 8)
    (tmp_path / "experiment.yaml").write_text(
        text + "settings: {strength: 0.4, num_inference_steps: 5}\n", encoding="utf-8"
    )
    assert main(["ab", "run", "experiment.yaml", "--output", "run", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["ab", "analyze", "run", "--html", "report.html"]) == 0
    first = capsys.readouterr().out.strip().splitlines()[0]
    assert "Not enough clips" not in first and "nc" in first
    assert (tmp_path / "report.html").is_file()


@pytest.fixture
def refiners() -> dict[str, Any]:
    """A control and an arm, and a clip for them."""
    nc, sdedit = (nc_refiner.CalibratedRefiner.from_name("embedded", iterations=count) for count in (1, 0))
    frames = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return {"nc": nc, "sdedit": sdedit, "clip": VideoClip(frames, 8.0), "user_id": "u1"}


@pytest.mark.parametrize("name", ["traffic", "shadow"])
def test_traffic_is_split(name: str, refiners: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs the experiment extra")
    monkeypatch.chdir(tmp_path)
    for _, text in snippets(name):
        names = dict(refiners)
        exec(text.replace("seed=1)", "seed=1, num_inference_steps=3)"), names)
        assert names["result"].clip.frames.shape == (2, 3, 32, 32)
        names["ab"].close()
        assert (tmp_path / "sharper.db").is_file()


@pytest.mark.parametrize("name", ["diffusers", "diffusers-scoped", "diffusers-refiner"])
def test_diffusers_snippets_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="needs the diffusers extra")
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "adapters" / "diffusers"))
    from zoo_video import VIDEOS

    entry = VIDEOS["WanVideoToVideoPipeline"]
    call = entry.arguments()
    embeds = call["prompt_embeds"], call["negative_prompt_embeds"]
    for _, text in snippets(name):
        pipe = entry.build()
        # The tiny pipeline has no text encoder: what the prompt would become is given in its place.
        monkeypatch.setattr(type(pipe), "encode_prompt", lambda self, **given: embeds)
        video = [frame for frame in torch.rand((9, 3, 32, 32), generator=torch.Generator().manual_seed(0))]
        names: dict[str, Any] = {
            "nc_refiner": nc_refiner,
            "torch": torch,
            "pipe": pipe,
            "video": torch.stack(video)[None],
        }
        names["clip"] = VideoClip(torch.stack(video), 8.0)
        small = "strength=0.5, num_inference_steps=4, height=32, width=32"
        exec(text.replace("strength=0.5", small if "= pipe(" in text else "strength=0.5, num_inference_steps=4"), names)
        made = names["result"].clip.frames if "result" in names else names["frames"]
        assert len(made) in (1, 9)
        assert name != "diffusers" or names["pipe"] is pipe


def test_a_restorer_of_ones_own_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from nc_refiner.baselines import RestoringBaseline, create_restorer, restorer_names

    monkeypatch.setattr(restorer_names, "_registered", {})
    (text,) = (text for _, text in snippets("restorer"))
    exec(text, {"torch": torch})
    clip = VideoClip(torch.rand((2, 3, 12, 16), generator=torch.Generator().manual_seed(0)), 8.0)
    smooth = RestoringBaseline(create_restorer("median", size=5))(clip).clip.frames
    assert smooth.shape == clip.frames.shape and smooth.std() < clip.frames.std() / 2


def test_the_pipeline_list_names_the_installed_release() -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")
    assert diffusers.__version__ in TEXTS[DOCS / "diffusers_pipelines.md"]


def test_a_target_instead_of_settings(capsys: pytest.CaptureFixture[str]) -> None:
    clip = VideoClip(torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)).mul(0.5), fps=8)
    for _, text in snippets("keep"):
        names: dict[str, Any] = {"clip": clip}
        exec(text, names)
        assert names["refined"].receipt["keep"]["target"] == {"ssim": 0.9}
    assert "'reached'" in capsys.readouterr().out


def test_the_masks_figures_are_what_their_snippet_prints(capsys: pytest.CaptureFixture[str]) -> None:
    ((page, text),) = snippets("mask-error")
    exec(compile(text, str(page), "exec"), {})
    printed = [float(line.split(": ")[1]) for line in capsys.readouterr().out.splitlines()]
    told = re.search(
        r"is ([\d.]+)\s+times smaller inside than outside at strength 0.4, and ([\d.]+) times", page.read_text("utf-8")
    )
    assert told is not None and printed == pytest.approx([float(value) for value in told.groups()], abs=0.15)
