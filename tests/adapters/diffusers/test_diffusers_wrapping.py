"""`wrap`, `unwrap`, `calibrated`: what they accept, refuse and leave behind."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_parts import clip_text, clip_tokenizer, image_vae, picture, sd_unet
from watching import counted
from zoo import IMAGES, generate, sd_parts, sd_scheduler
from zoo_video import VIDEOS

import nc_refiner
from nc_refiner.adapters.diffusers.errors import NotSDEdit

ENTRY = IMAGES["StableDiffusionImg2ImgPipeline"]


@pytest.fixture
def pipe() -> Any:
    return ENTRY.build()


def test_importing_the_package_imports_no_host() -> None:
    code = "import sys, nc_refiner; sys.exit('diffusers' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_twin_is_the_same_to_its_user(pipe: Any, tmp_path: Path) -> None:
    twin = nc_refiner.wrap(pipe, iterations=1)
    assert isinstance(twin, type(pipe)) and type(twin).__name__ == type(pipe).__name__
    assert inspect.signature(twin.__call__) == inspect.signature(pipe.__call__)
    assert twin.unet is pipe.unet and twin.vae is pipe.vae and twin.scheduler is not pipe.scheduler
    assert set(twin.components) == set(pipe.components)
    assert twin.to(torch.float32) is twin
    twin.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(tmp_path, safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(generate(loaded, ENTRY), generate(pipe, ENTRY))


def test_wrapping_twice_only_changes_the_settings(pipe: Any) -> None:
    once = nc_refiner.wrap(pipe, iterations=2)
    again = nc_refiner.wrap(nc_refiner.wrap(pipe, iterations=1), iterations=2)
    assert type(once) is type(again)
    assert torch.equal(generate(once, ENTRY), generate(again, ENTRY))
    assert nc_refiner.unwrap(again) is pipe and nc_refiner.unwrap(pipe) is pipe
    assert nc_refiner.unwrap(nc_refiner.unwrap(again)) is pipe


def test_scoped_and_nested(pipe: Any) -> None:
    cls, stock = type(pipe), generate(pipe, ENTRY)
    one, two = (generate(nc_refiner.wrap(pipe, iterations=n), ENTRY) for n in (1, 2))
    with nc_refiner.calibrated(pipe, iterations=1):
        assert torch.equal(generate(pipe, ENTRY), one)
        with nc_refiner.calibrated(pipe, iterations=2):
            assert torch.equal(generate(pipe, ENTRY), two)
        assert torch.equal(generate(pipe, ENTRY), one)
        assert torch.equal(generate(nc_refiner.wrap(pipe, iterations=2), ENTRY), two)
    assert type(pipe) is cls and torch.equal(generate(pipe, ENTRY), stock)
    with pytest.raises(KeyError), nc_refiner.calibrated(pipe, iterations=1):
        raise KeyError
    assert type(pipe) is cls and "_nc_refiner" not in vars(pipe)


def test_a_config_object_or_fields(pipe: Any) -> None:
    config = nc_refiner.NoiseCalibration(iterations=2, cutoff=0.5)
    expected = generate(nc_refiner.wrap(pipe, iterations=2, cutoff=0.5), ENTRY)
    assert torch.equal(generate(nc_refiner.wrap(pipe, config), ENTRY), expected)
    with pytest.raises(TypeError, match="not both"):
        nc_refiner.wrap(pipe, config, iterations=1)
    with pytest.raises(TypeError, match="did you mean 'iterations'"):
        nc_refiner.wrap(pipe, iteration=1)
    with pytest.raises(ValueError, match="'in_loop'"):
        nc_refiner.wrap(pipe, mode="loop")
    with pytest.raises(ValueError, match="at least 0"):
        nc_refiner.wrap(pipe, iterations=-1)


def test_what_is_not_a_pipeline_is_refused(pipe: Any) -> None:
    for wrong in (pipe.unet, "a name", None):
        with pytest.raises(TypeError, match="known hosts: diffusers"):
            nc_refiner.wrap(wrong)


def test_a_pipeline_that_is_not_sdedit_is_refused() -> None:
    from_text = diffusers.StableDiffusionPipeline(**sd_parts())
    with pytest.raises(NotSDEdit, match=r"takes no `strength`.*AutoPipelineForImage2Image"):
        nc_refiner.wrap(from_text)
    with pytest.raises(NotSDEdit, match="takes no `strength`"), nc_refiner.calibrated(from_text):
        pass


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("StableDiffusionXLImg2ImgPipeline", {"denoising_start": 0.5}, "denoising_start=0.5"),
        ("StableDiffusionXLImg2ImgPipeline", {"latents": torch.zeros(1, 4, 16, 16)}, "latents="),
    ],
)
def test_calls_that_noise_nothing_are_refused(name: str, arguments: dict[str, Any], reason: str) -> None:
    entry = IMAGES[name]
    pipe = entry.build()
    for mode in ("in_loop", "replay", "auto"):
        with pytest.raises(NotSDEdit, match=reason):
            generate(nc_refiner.wrap(pipe, iterations=1, mode=mode), entry, **arguments)
    assert torch.equal(
        generate(nc_refiner.wrap(pipe, iterations=0), entry, **arguments), generate(pipe, entry, **arguments)
    )


@pytest.mark.parametrize("name", ["StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"])
def test_inpainting_at_strength_1_is_a_stock_call_with_a_warning(name: str) -> None:
    entry = IMAGES[name]
    pipe = entry.build()
    stock = generate(pipe, entry, strength=1.0)
    for mode in ("in_loop", "replay", "auto"):
        wrapped = nc_refiner.wrap(pipe, iterations=1, mode=mode)
        with pytest.warns(UserWarning, match="strength is 1"), counted(pipe) as calls:
            assert torch.equal(generate(wrapped, entry, strength=1.0), stock)
        assert len(calls) == 5 and wrapped.calibration_trace.content_loss == ()


def test_free_init_is_refused_and_its_remedy_works() -> None:
    entry = VIDEOS["AnimateDiffVideoToVideoPipeline"]
    pipe = nc_refiner.wrap(entry.build(), iterations=1)
    pipe.enable_free_init(num_iters=2)
    with pytest.raises(NotSDEdit, match="disable_free_init"):
        generate(pipe, entry)
    pipe.disable_free_init()
    generate(pipe, entry)


def test_ltx_with_conditions_is_refused() -> None:
    entry = VIDEOS["LTXConditionPipeline"]
    with pytest.raises(NotSDEdit, match="noise level of its own"):
        generate(nc_refiner.wrap(entry.build(), iterations=1), entry, image=picture(), frame_index=0)


def test_another_host_can_be_registered(pipe: Any) -> None:
    from nc_refiner import wrapping
    from nc_refiner.adapters import registry

    host = wrapping.Host("mine", lambda value: value == "mine", "nc_refiner.adapters.diffusers.host")
    known = dict(registry._hosts)
    try:
        wrapping.register_host(host)
        assert nc_refiner.unwrap("mine") == "mine"
        with pytest.raises(ValueError, match="already registered"):
            wrapping.register_host(wrapping.Host("mine", callable, "elsewhere"))
    finally:
        registry._hosts.clear()
        registry._hosts.update(known)


def test_a_pipeline_nobody_here_knows_works_in_auto_mode() -> None:
    """A community-style pipeline: its own loop, no get_timesteps, Euler steps; nothing is written for it."""

    class Plain(diffusers.DiffusionPipeline):
        def __init__(self, vae: Any, unet: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
            super().__init__()
            self.register_modules(
                vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler
            )

        @torch.no_grad()
        def __call__(self, image: torch.Tensor, strength: float, generator: Any = None) -> tuple[torch.Tensor]:
            ids = self.tokenizer("a", padding="max_length", return_tensors="pt").input_ids
            text = self.text_encoder(ids)[0]
            self.scheduler.set_timesteps(6)
            steps = self.scheduler.timesteps[6 - int(6 * strength) :]
            clean = self.vae.encode(2 * image - 1).latent_dist.sample(generator)
            noise = torch.randn(clean.shape, generator=generator)
            x = self.scheduler.add_noise(clean, noise, steps[:1])
            for t in steps:
                x = self.scheduler.step(self.unet(self.scheduler.scale_model_input(x, t), t, text).sample, t, x)
                x = x.prev_sample
            return (x,)

    pipe = Plain(image_vae(), sd_unet(), clip_text(), clip_tokenizer(), sd_scheduler())

    def call(pipe: Any) -> torch.Tensor:
        return pipe(picture(), 0.5, generator=torch.Generator().manual_seed(0))[0]

    wrapped = nc_refiner.wrap(pipe, iterations=2)
    with pytest.warns(UserWarning, match="no get_timesteps"):
        calibrated = call(wrapped)
    assert not torch.equal(calibrated, call(pipe))
    assert torch.equal(call(nc_refiner.wrap(pipe, iterations=0)), call(pipe))
    assert len(wrapped.calibration_trace.content_loss) == 2
