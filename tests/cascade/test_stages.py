"""Stages one by one: the programs, the interpolations, the pipelines."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from nc_refiner.cascade import Stage, StageOptions, StageRequest, StageResult, register_stage
from nc_refiner.cascade.stages import available_stages, registry, stage_class
from nc_refiner.cascade.stages.base import KINDS
from nc_refiner.clip import VideoClip
from nc_refiner.video import FrameWriter, read_clip

from ..video.conftest import moving, psnr

pytestmark = pytest.mark.usefixtures("small_model")


def request_for(
    tmp_path: Path, clip: VideoClip | None = None, prompt: str | None = "a camel", seed: int = 3
) -> StageRequest:
    return StageRequest(prompt, None, seed, clip, None, lambda word: None, tmp_path)


def made(kind: str, name: str, **options: object) -> Stage:
    cls = stage_class(kind, name)
    return cls(cls.Options(type=name, **options))


WRITER = """
import sys
from nc_refiner.video import FrameWriter
import torch
prompt, seed, output = sys.argv[1:]
assert prompt == "a camel; rm -rf $HOME", prompt
with FrameWriter(output, 8) as writer:
    writer.write(torch.full((3, 3, 32, 48), int(seed) / 10))
"""


def test_command_is_no_shell(tmp_path):
    stage = made("base", "command", command=[sys.executable, "-c", WRITER, "{prompt}", "{seed}", "{output}"])
    stage.check()
    clip = stage.run(request_for(tmp_path, prompt="a camel; rm -rf $HOME")).clip
    assert len(clip) == 3 and float(clip.frames.mean()) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('no memory'); sys.exit(3)", "failed with code 3: no memory"),
        ("pass", "wrote no {output} file"),
        ("open(r'{output}', 'wb').write(b'x')", "output.mp4"),
    ],
)
def test_a_program_that_fails(tmp_path, code, words):
    stage = made("base", "command", command=[sys.executable, "-c", code, "{output}"])
    with pytest.raises((RuntimeError, ValueError), match=None) as found:
        stage.run(request_for(tmp_path))
    assert words in str(found.value)


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path):
    child = "import time, pathlib; time.sleep(3); pathlib.Path('survived').touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], cwd=sys.argv[1])"
    stage = made("base", "command", command=[sys.executable, "-c", code, "{folder}"], timeout=0.7)
    with pytest.raises(RuntimeError, match=r"stopped after 0\.7 seconds"):
        stage.run(request_for(tmp_path))
    time.sleep(3)
    assert not (tmp_path / "survived").exists()


def test_blend_is_the_weighted_mean():
    frames = torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)])
    result = made("interpolation", "blend", factor=4).run(request_for(Path(), VideoClip(frames, 8.0)))
    assert result.clip.fps == 32
    assert torch.allclose(result.clip.frames.mean(dim=(1, 2, 3)), torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))


def test_61_frames_from_16_and_a_still_stays():
    clip = VideoClip(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)), 8.0)
    assert len(made("interpolation", "blend", factor=4).run(request_for(Path(), clip)).clip) == 61
    still = VideoClip(clip.frames[:1], 8.0)
    assert len(made("interpolation", "blend", factor=4).run(request_for(Path(), still)).clip) == 1


def textured(shift: float) -> torch.Tensor:
    """A smooth texture that moves `shift` pixels to the right over a still one."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    still = 0.5 + 0.2 * torch.sin(x / 3) * torch.cos(y / 4)
    moved = 0.5 + 0.4 * torch.sin((x - shift) / 2.5) * torch.cos(y / 3 + 1)
    inside = ((x - shift - 60).abs() < 22) & ((y - 48).abs() < 26)
    return torch.where(inside, moved, still).expand(3, -1, -1).contiguous()


def test_flow_follows_the_motion_and_blend_does_not():
    clip = VideoClip(torch.stack([textured(0), textured(6)]), 8.0)
    truth = textured(3)
    flow = made("interpolation", "flow", factor=2)
    flow.check()
    along = flow.run(request_for(Path(), clip)).clip.frames[1]
    mixed = made("interpolation", "blend", factor=2).run(request_for(Path(), clip)).clip.frames[1]
    assert psnr(along, truth) > psnr(mixed, truth) + 5
    again = flow.run(request_for(Path(), clip)).clip.frames[1]
    assert torch.equal(along, again)


def test_flow_on_a_still_scene_changes_nothing():
    clip = VideoClip(torch.stack([textured(0), textured(0)]), 8.0)
    found = made("interpolation", "flow", factor=2).run(request_for(Path(), clip)).clip.frames[1]
    assert float((found - textured(0)).abs().max()) < 1e-3


@pytest.mark.slow
def test_flow_beats_blend_on_real_motion(clips):
    clip = read_clip(clips / "natural" / "eval" / "05_default_juggle.mp4", max_frames=9, height=240)
    every_other = VideoClip(clip.frames[::2], 8.0)
    scores = {}
    for name in ("flow", "blend"):
        found = made("interpolation", name, factor=2).run(request_for(Path(), every_other)).clip.frames
        scores[name] = psnr(found[1::2], clip.frames[1:8:2])
    assert scores["flow"] > scores["blend"]


class _Halfway(torch.nn.Module):
    def forward(self, before: torch.Tensor, after: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return before * (1 - timestep) + after * timestep


def test_rife_hook(tmp_path):
    torch.jit.save(torch.jit.script(_Halfway()), tmp_path / "rife.pt")
    clip = VideoClip(moving(3, 40, 50), 8.0)
    stage = made("interpolation", "rife", weights=str(tmp_path / "rife.pt"), factor=2, device="cpu")
    stage.check()
    stage.load()
    found = stage.run(request_for(tmp_path, clip)).clip.frames
    wanted = made("interpolation", "blend", factor=2).run(request_for(tmp_path, clip)).clip.frames
    assert torch.allclose(found, wanted, atol=1e-6)
    (tmp_path / "bad.pt").write_bytes(b"no network")
    with pytest.raises(ValueError, match="no TorchScript file"):
        made("interpolation", "rife", weights=str(tmp_path / "bad.pt")).load()


def test_embedded_base_depends_on_its_seed_alone(tmp_path, global_rng_untouched):
    stage = made("base", "embedded", frames=2, height=32, width=32, num_inference_steps=3, device="cpu")
    stage.load()
    first, again, other = (stage.run(request_for(tmp_path, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first.clip.frames, again.clip.frames)
    assert not torch.equal(first.clip.frames, other.clip.frames)
    assert float(first.clip.frames.std()) > 0.05
    assert first.receipt["degradations"] == ["prompt ignored: the embedded model is unconditional"]


def test_file_base(tmp_path):
    for name in ("b_second_clip", "a_first_clip"):
        with FrameWriter(tmp_path / f"{name}.mp4", 12) as writer:
            writer.write(moving(3, 32, 48))
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    stage = made("base", "file", path=str(tmp_path), prompt_from="name")
    stage.check()
    assert [(source.name, source.prompt) for source in stage.sources()] == [
        ("a_first_clip", "a first clip"),
        ("b_second_clip", "b second clip"),
    ]
    (tmp_path / "c.mp4").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"c\.mp4"):
        stage.check()


@pytest.fixture
def modelscope_asked(monkeypatch):
    """What ModelScope's sources, replaced, were asked for."""
    asked = []

    class Source:
        def __init__(self, model, device=None):
            asked.append((type(self).__name__, model, device))

        def __call__(self, prompt, seed, **options):
            asked.append((prompt, seed, options))
            return VideoClip(moving(3, 64, 64), 8.0, prompt, seed)

    sources = ModuleType("nc_refiner.adapters.modelscope.sources")
    sources.TextToVideo = type("TextToVideo", (Source,), {})
    sources.ImageToVideo = type("ImageToVideo", (Source,), {})
    package = ModuleType("nc_refiner.adapters.modelscope")
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, sources.__name__, sources)
    return asked


def test_modelscope_base_calls_its_source(tmp_path, modelscope_asked):
    stage = made("base", "modelscope", model="folder", height=64, device="cpu")
    stage.load()
    assert len(stage.run(request_for(tmp_path)).clip) == 3
    assert modelscope_asked == [("TextToVideo", "folder", "cpu"), ("a camel", 3, {"height": 64, "width": None})]
    with pytest.raises(ValueError, match="needs a prompt"):
        stage.run(request_for(tmp_path, prompt=None))


def test_modelscope_base_from_pictures(tmp_path, modelscope_asked):
    for name in ("second.png", "first.jpg"):
        Image.new("RGB", (32, 48), "teal").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    stage = made("base", "modelscope_image", model="folder", image=str(tmp_path), device="cpu")
    first, second = stage.sources()
    assert (first.name, second.name) == ("first", "second")
    stage.load()
    result = stage.run(replace(request_for(tmp_path, prompt=None), source=second))
    assert result.receipt["input"] == str(tmp_path / "second.png")
    assert modelscope_asked == [("ImageToVideo", "folder", "cpu"), (None, 3, {"image": tmp_path / "second.png"})]
    (tmp_path / "third.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"third\.png: is not a picture"):
        stage.check()
    with pytest.raises(ValueError, match=r"base\.image: .*absent does not exist; give a picture or a folder"):
        made("base", "modelscope_image", image=str(tmp_path / "absent")).check()


def test_diffusers_base_runs_a_saved_pipeline(tmp_path, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "adapters" / "diffusers"))
    from zoo_video import zeroscope_parts

    folder = tmp_path / "tiny"
    diffusers.TextToVideoSDPipeline(**zeroscope_parts()).save_pretrained(folder, safe_serialization=True)
    options = {"num_frames": 5, "height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 1.0}
    stage = made("base", "diffusers", model=str(folder), device="cpu", fps=12.0, **options)
    stage.check()
    stage.load()
    first, again, other = (stage.run(request_for(tmp_path, seed=seed)).clip for seed in (1, 1, 2))
    assert (len(first), first.height, first.width, first.fps) == (5, 16, 16, 12.0)
    assert torch.equal(first.frames, again.frames) and not torch.equal(first.frames, other.frames)
    with pytest.raises(ValueError, match="takes no wings"):
        made_again = made("base", "diffusers", model=str(folder), device="cpu", call={"wings": 2})
        made_again.load()
        made_again.run(request_for(tmp_path))


@pytest.fixture
def stages(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


def test_a_third_partys_stage_by_decorator_and_entry_point(stages, monkeypatch, tmp_path):
    class Reverse(Stage):
        """Plays backwards."""

        Options = StageOptions

        def run(self, request):
            return StageResult(request.clip.with_frames(request.clip.frames.flip(0), "reversed"))

    register_stage("interpolation", "reverse")(Reverse)
    assert "reverse" in available_stages("interpolation")
    with pytest.raises(ValueError, match="already registered"):
        register_stage("interpolation", "reverse")(Stage)
    with pytest.raises(ValueError, match="lower case"):
        register_stage("interpolation", "None")

    class Point:
        def load(self):
            return Reverse

    monkeypatch.setattr(registry, "_entry_points", lambda: {"base.far": Point()})
    assert "far" in available_stages("base") and "far" not in available_stages("refiner")
    assert stage_class("base", "far") is Reverse


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_stage_says_what_it_is(kind):
    for name in registry.BUILT_IN[kind]:
        cls = stage_class(kind, name)
        assert cls.__doc__ and cls.Options.__doc__
        assert cls.Options.model_fields["type"].default == name


def test_a_program_that_prints_without_end_is_not_read_whole(tmp_path):
    import resource

    from nc_refiner.cascade.stages.command import _run

    script = "import sys\nfor _ in range(3000): sys.stdout.write('x' * 100_000)\nprint('the end')\nsys.exit(3)"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RuntimeError, match=r"failed with code 3: x+the end"):
        _run([sys.executable, "-c", script], 100, tmp_path / "log")
    assert (tmp_path / "log").stat().st_size > 290_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
