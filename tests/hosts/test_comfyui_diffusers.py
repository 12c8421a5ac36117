"""The node and the diffusers adapter on the same tiny UNet, schedule, noise and prompts come to the same latents."""

from __future__ import annotations

import pytest
import torch

import nc_refiner
from integrations.comfyui.calibrator import Calibrator
from integrations.comfyui.host import comfyui
from nc_refiner import NoiseCalibration

from ..adapters.diffusers.tiny_parts import clip_text, clip_tokenizer, image_vae
from .comfyui_rig import Rig, checkout, imported, picture, prompt
from .comfyui_unet import diffusers_unet, tiny_unet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


@pytest.fixture(scope="module")
def comfy():
    return imported(checkout())


def pipeline(kind: str, solver: str):
    from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline

    says = "epsilon" if kind == "EPS" else "v_prediction"
    classes = {"euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
    scheduler = classes[solver](**SCHEDULE, prediction_type=says, timestep_spacing="leading")
    pipe = StableDiffusionImg2ImgPipeline(
        image_vae(),
        clip_text(),
        clip_tokenizer(),
        diffusers_unet(),
        scheduler,
        None,
        None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    "settings",
    [
        {"iterations": 0},
        {"iterations": 1},
        {"iterations": 3},
        {"iterations": 3, "cutoff": 0.5},
        {"iterations": 2, "reuse_prediction": False},
        {"iterations": 2, "guidance_scale": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("kind", ["EPS", "V_PREDICTION"])
def test_both_come_to_the_same_latents(comfy, kind, solver, settings):
    latent = picture((1, 4, 16, 16), 2)
    pipe = pipeline(kind, solver)
    ((context, _),), ((empty, _),) = prompt(0.2), prompt(-0.1)
    theirs = nc_refiner.wrap(pipe, **settings)(
        prompt_embeds=context,
        negative_prompt_embeds=empty,
        image=latent,
        strength=0.5,
        num_inference_steps=12,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
    ).images
    rig = Rig(comfy, kind)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(9))
    pipe.scheduler.set_timesteps(12)  # the wrapped copy has a scheduler of its own
    timesteps = pipe.scheduler.timesteps[-6:]
    model = tiny_unet(comfy, kind)
    sigmas = torch.cat([model.model.model_sampling.sigmas[timesteps.long()], torch.zeros(1)])
    ours = rig.run(
        solver,
        Calibrator(NoiseCalibration(**settings), comfyui()),
        noise=noise,
        latent=latent,
        sigmas=sigmas,
        model=model,
    )
    assert float((ours - theirs).abs().max()) < 1e-4
