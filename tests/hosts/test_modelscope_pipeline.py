"""The real video-to-video pipeline of ModelScope on tiny weights, from mp4 to mp4."""

from __future__ import annotations

import random
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import nc_refiner
from nc_refiner.adapters import create
from nc_refiner.adapters.modelscope.adapter import ModelScopeAdapter
from nc_refiner.calibration import NoiseCalibration, calibrate
from nc_refiner.refiner import CalibratedRefiner
from nc_refiner.refining import conformance
from nc_refiner.video import read_clip

MODES = {"fast": ("dpmpp_2m_sde", 30), "slow": ("heun", 50)}

pytestmark = pytest.mark.slow


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(tiny.cfg, "solver_mode", request.param)
    return request.param


def run(pipe: Any, source: Path, target: Path) -> tuple[torch.Tensor, bytes]:
    """The tensor the model made and the file the host wrote."""
    tensors = []
    real = pipe.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        tensors.append(found["video"].clone())
        return found

    vars(pipe)["forward"] = forward
    torch.manual_seed(1)
    random.seed(1)
    try:
        pipe({"video_path": str(source), "text": "a dog"}, output_video=str(target))
    finally:
        del vars(pipe)["forward"]
    return tensors[0], target.read_bytes()


def test_the_readmes_snippet_runs_after_its_own_install_line(tiny, models, source, tmp_path, ffmpeg, monkeypatch):
    """In CI nothing but that line (and pytest) is installed: none of what ModelScope imports and never uses."""
    root = Path(__file__).parents[2]
    texts = [(root / name).read_text(encoding="utf-8") for name in ("README.md", "docs/guides/modelscope.md")]
    found = {text.split("<!-- snippet: modelscope -->\n```py\n", 1)[1].split("```", 1)[0] for text in texts}
    assert len(found) == 1, "the README and the guide show the same lines"
    (snippet,) = found
    assert "load_pipeline" in snippet and not [
        name for name in ("fairscale", "rotary_embedding_torch") if find_spec(name)
    ]
    for published, ours in (
        ("damo/Video-to-Video", models.video),
        ("in.mp4", source),
        ("out.mp4", tmp_path / "out.mp4"),
    ):
        assert published in snippet
        snippet = snippet.replace(published, str(ours))
    exec(snippet, {"nc_refiner": nc_refiner})
    assert len(read_clip(tmp_path / "out.mp4")) == 3


def test_identity_evaluations_and_stock_again(tiny, source, tmp_path, ffmpeg, mode, counted):
    stock, stock_file = run(tiny.pipe, source, tmp_path / "stock.mp4")
    evaluations, counted.count = counted.count, 0
    rng = torch.get_rng_state()
    before = {name: id(value) for name, value in vars(tiny.pipe).items()}
    for options in ({"iterations": 0}, {"iterations": 3, "cutoff": 0.0}):
        twin = nc_refiner.wrap(tiny.pipe, **options)
        assert isinstance(twin, type(tiny.pipe))
        same, same_file = run(twin, source, tmp_path / "same.mp4")
        assert torch.equal(stock, same) and stock_file == same_file
        assert torch.equal(rng, torch.get_rng_state()), "the host's stream is the same"
        assert counted.count == evaluations and twin.calibration_trace.content_loss == ()
        counted.count = 0
    twin = nc_refiner.wrap(tiny.pipe, iterations=2)
    other, other_file = run(twin, source, tmp_path / "other.mp4")
    assert counted.count == evaluations + 2
    assert torch.equal(rng, torch.get_rng_state())
    assert len(twin.calibration_trace.content_loss) == 2
    assert not torch.equal(stock, other) and stock_file != other_file
    assert nc_refiner.unwrap(twin) is tiny.pipe
    assert {name: id(value) for name, value in vars(tiny.pipe).items()} == before
    again, again_file = run(tiny.pipe, source, tmp_path / "again.mp4")
    assert torch.equal(stock, again) and stock_file == again_file


def test_calibrated_block_leaves_nothing(tiny, source, tmp_path, ffmpeg):
    before = dict(vars(tiny.pipe))
    with nc_refiner.calibrated(tiny.pipe, iterations=1) as pipe:
        run(pipe, source, tmp_path / "out.mp4")
        assert pipe is tiny.pipe and len(pipe.calibration_trace.content_loss) == 1
    assert vars(tiny.pipe) == before


@pytest.mark.parametrize("at", ["network_input", "x_t"])
def test_full_band_once_gives_the_networks_own_noise(tiny, at):
    """e = ε_θ, with ε_θ from the raw network outputs in float64, at either place."""
    diffusion, generator = tiny.pipe.model.diffusion, tiny.pipe.model.generator
    adapter = ModelScopeAdapter(tiny.pipe, calibrate_at=at)
    condition, level = adapter.condition("a dog"), adapter.noise_level(torch.tensor(599))
    draw = torch.Generator().manual_seed(3)
    reference, noise = (torch.randn(1, 4, 3, 10, 8, generator=draw) for _ in range(2))
    x_t = level.add_noise(reference, noise)
    with torch.no_grad():
        done = calibrate(
            x_t,
            reference,
            level,
            lambda x: adapter.predict_x0(x, torch.tensor(599), condition),
            NoiseCalibration(iterations=1),
        )
        alpha, sigma = diffusion.alphas[599].double(), diffusion.sigmas[599].double()
        point = x_t.double() * (sigma if at == "network_input" else 1)
        with_text, without = (generator(point.float(), t=torch.tensor([599]), **c).double() for c in condition)
    guided = without + 7.5 * (with_text - without)
    v = guided * (0.2 * with_text.std() / guided.std() + 0.8)
    x0 = alpha * point - sigma * v
    epsilon = (x_t.double() - alpha * x0) / sigma
    found = (done.x_t.double() - alpha * reference.double()) / sigma
    assert float((found - epsilon).norm() / epsilon.norm()) < 1e-5


@pytest.mark.parametrize("iterations", [0, 2])
def test_adapter_equals_the_wrapped_pipeline(tiny, mode, iterations):
    solver, steps = MODES[mode]
    frames = torch.rand((3, 3, 80, 64), generator=torch.Generator().manual_seed(4))
    twin = nc_refiner.wrap(tiny.pipe, iterations=iterations)
    embedded = tiny.pipe.model.clip_encoder("a dog" + tiny.pipe.model.positive_prompt)
    torch.manual_seed(9)
    video = twin.forward({"video_data": (frames - 0.5) / 0.5, "y": embedded})["video"]
    wanted = (video[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1)

    adapter = ModelScopeAdapter(tiny.pipe)
    assert adapter.solver == solver
    generator = torch.Generator().manual_seed(9)
    reference = adapter.encode(frames, generator)
    torch.randint(599, 600, (1,), generator=generator)  # the host draws its constant timestep
    noise = torch.empty_like(reference).normal_(generator=generator)
    timesteps, condition = adapter.timesteps(steps, 0.6), adapter.condition("a dog")
    level = adapter.noise_level(timesteps.first)
    done = calibrate(
        level.add_noise(reference, noise),
        reference,
        level,
        lambda x: adapter.predict_x0(x, timesteps.first, condition),
        NoiseCalibration(iterations=iterations, reuse_prediction=True),
    )
    ticks: list[int] = []
    latents = adapter.denoise(
        done.x_t, timesteps, condition, generator=generator, first_x0=done.x0, on_step=lambda: ticks.append(1)
    )
    assert torch.equal(adapter.decode(latents), wanted)
    assert len(ticks) == len(timesteps) == steps


def test_timesteps_are_the_hosts(tiny, mode):
    """The timesteps the host's solver really visits, in both modes and at other strengths and step counts."""
    adapter = ModelScopeAdapter(tiny.pipe)
    for steps, strength in ((MODES[mode][1], 0.6), (7, 0.3), (4, 0.999)):
        seen: list[int] = []

        def spy(x: torch.Tensor, t: torch.Tensor, seen: list[int] = seen) -> torch.Tensor:
            seen.append(int(t))
            return torch.zeros_like(x)

        timesteps = adapter.timesteps(steps, strength)
        tiny.pipe.model.diffusion.sample(
            torch.zeros(1, 4, 2, 10, 8), spy, {}, solver=adapter.solver, steps=steps, t_max=int(timesteps.first),
            t_min=0, discretization="trailing",
        )  # fmt: skip
        wanted = [round(float(t)) for t in timesteps.values]
        assert sorted(set(seen), reverse=True) == wanted


def test_conformance(tiny, mode):
    frames = torch.rand((4, 3, 80, 64), generator=torch.Generator().manual_seed(0))
    conformance.check(ModelScopeAdapter(tiny.pipe), frames, num_inference_steps=4, lossless=False).raise_for_failures()


@pytest.mark.parametrize("size", [(144, 256), (100, 70)])
def test_any_clip_through_the_refiner(tiny, size):
    clip = nc_refiner.VideoClip(torch.rand((5, 3, *size), generator=torch.Generator().manual_seed(2)), fps=12.0)
    refiner = CalibratedRefiner.from_name("modelscope", {"pipe": tiny.pipe}, iterations=1)
    options = {"prompt": "a dog", "strength": 0.3, "num_inference_steps": 2, "seed": 3, "window": 3, "overlap": 1}
    before = torch.get_rng_state()
    result = refiner(clip, **options)
    assert torch.equal(before, torch.get_rng_state())
    assert result.clip.frames.shape == clip.frames.shape and result.clip.fps == 12.0
    assert result.receipt["evaluations"] == {"calibration": 4, "denoising": 4}
    assert torch.equal(result.clip.frames, refiner(clip, **options).clip.frames)


def test_reused_prediction_saves_a_guided_evaluation(tiny, counted):
    frames = torch.rand((2, 3, 80, 64), generator=torch.Generator().manual_seed(2))
    clip = nc_refiner.VideoClip(frames)
    counts = []
    for reuse in (False, True, None):
        refiner = CalibratedRefiner.from_name("modelscope", {"pipe": tiny.pipe}, iterations=1, reuse_prediction=reuse)
        counted.count = 0
        refiner(clip, num_inference_steps=3)
        counts.append(counted.count)
    assert counts == [8, 6, 6]


def test_own_pipeline_name(tiny, source, tmp_path, monkeypatch):
    from modelscope.pipelines import pipeline

    import integrations.modelscope as registered

    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg: its writer is ours
    pipe = pipeline(
        "video-to-video", str(tiny.folder), pipeline_name=registered.PIPELINE_NAME, iterations=2, device="cpu"
    )
    target = tmp_path / "out.mp4"
    found = pipe({"video_path": str(source), "text": "a dog"}, output_video=str(target))
    assert found["output_video"] == str(target)
    written = read_clip(target)
    assert len(written) == 3 and written.fps == pytest.approx(12.0)
    assert len(pipe.calibration_trace.content_loss) == 2


def test_without_ffmpeg_it_says_so_before_the_work(tiny, source, tmp_path, monkeypatch, counted):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="ffmpeg is not on PATH"):
        nc_refiner.wrap(tiny.pipe)({"video_path": str(source)}, output_video=str(tmp_path / "out.mp4"))
    assert counted.count == 0


def test_a_video_that_was_not_written_is_an_error(tiny, source, tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\n", encoding="utf-8")  # succeeds and writes nothing
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    twin = nc_refiner.wrap(tiny.pipe, iterations=0)
    with pytest.raises(RuntimeError, match="wrote no video"):
        twin({"video_path": str(source)}, output_video=str(tmp_path / "out.mp4"))


def test_half_precision_on_a_cpu_is_refused(tiny):
    tiny.pipe.model.generator.half()
    try:
        with pytest.raises(ValueError, match=r"generator\.float\(\)"):
            nc_refiner.wrap(tiny.pipe)
    finally:
        tiny.pipe.model.generator.float()


def test_loading_keeps_the_random_state_and_leaves_no_stand_in(tiny):
    before, python = torch.get_rng_state(), random.getstate()
    create("modelscope", model=str(tiny.folder), device="cpu")
    assert torch.equal(before, torch.get_rng_state()) and random.getstate() == python
    assert not [name for name in sys.modules if name.partition(".")[0] in ("fairscale", "rotary_embedding_torch")]


def test_foreign_latents_are_refused(tiny):
    twin = nc_refiner.wrap(tiny.pipe)
    diffusion = twin.model.diffusion
    latents, t = torch.zeros(1, 4, 2, 10, 8), torch.tensor([599])
    with pytest.raises(RuntimeError, match="diffuse did not make"):
        diffusion.sample(latents, tiny.pipe.model.generator, t_max=599)
    with pytest.raises(RuntimeError, match="starts at 400"):
        diffusion.sample(diffusion.diffuse(latents, t), tiny.pipe.model.generator, t_max=400)


def test_an_nc_pipeline_is_a_pipeline_for_the_refiner(tiny, source, models):
    from modelscope.pipelines import pipeline

    import integrations.modelscope  # noqa: F401 - registers the pipeline
    from nc_refiner.adapters.modelscope.stand_ins import missing_imports_stood_in

    with missing_imports_stood_in():
        made = pipeline(
            "video-to-video", str(models.video), pipeline_name="nc-video-to-video", device="cpu", iterations=2
        )
        with pytest.raises(TypeError, match="did you mean 'iterations'"):
            pipeline("video-to-video", str(models.video), pipeline_name="nc-video-to-video", device="cpu", iteration=2)
    made.model.generator.load_state_dict(tiny.pipe.model.generator.state_dict())
    made.model.autoencoder.load_state_dict(tiny.pipe.model.autoencoder.state_dict())
    clip = read_clip(source)
    wanted, found = (
        CalibratedRefiner.from_name("modelscope", {"pipe": pipe}, iterations=1)(
            clip, seed=1, num_inference_steps=2, prompt="a dog"
        )
        for pipe in (tiny.pipe, made)
    )
    assert torch.equal(wanted.clip.frames, found.clip.frames)
    assert wanted.receipt["evaluations"] == found.receipt["evaluations"]
    with nc_refiner.calibrated(tiny.pipe, iterations=3):
        inside = CalibratedRefiner.from_name("modelscope", {"pipe": tiny.pipe}, iterations=1)(
            clip, seed=1, num_inference_steps=2, prompt="a dog"
        )
    assert torch.equal(wanted.clip.frames, inside.clip.frames)


def test_unusable_targets_are_refused_before_any_evaluation(tiny, source, tmp_path, ffmpeg, counted):
    twin = nc_refiner.wrap(tiny.pipe, iterations=1)
    told = {"video_path": str(source), "text": "a dog"}
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        twin(told, output_video=str(tmp_path / "missing" / "out.mp4"))
    with pytest.raises(ValueError, match="hands it to a shell"):
        twin(told, output_video=str(tmp_path / "a file.mp4"))
    assert counted.count == 0


@pytest.mark.parametrize("way", ["forward", "model"])
def test_calibration_keeps_no_graph(tiny, source, way):
    """The pipeline's `forward` and its model run with gradients on; the host's own sampling turns them off."""
    told = tiny.pipe.preprocess({"video_path": str(source), "text": "a dog"})
    counts = []
    for pipe in (tiny.pipe, nc_refiner.wrap(tiny.pipe, iterations=3)):
        saved = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: (saved.append(t), t)[1], lambda t: t)
        with torch.enable_grad(), hooks:
            video = pipe.forward(dict(told))["video"] if way == "forward" else pipe.model(dict(told))
        counts.append(sum(t.numel() * t.element_size() for t in saved))
        assert not video.requires_grad
    assert counts == [0, 0]
