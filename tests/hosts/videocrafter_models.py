"""Tiny models of VideoCrafter's real classes, with weights that are nowhere zero, and the pieces of its sampling."""

from __future__ import annotations

import importlib.util
import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

NEEDED = ("einops", "omegaconf", "pytorch_lightning", "open_clip", "kornia", "transformers", "cv2", "decord")
WIDTH = 1024  # fixed in the host's image projector


def checkout() -> Path:
    """The clone named by VIDEOCRAFTER_ROOT; skips, with the reason, where it or a package is missing."""
    root = os.environ.get("VIDEOCRAFTER_ROOT")
    if not root:
        pytest.skip("VIDEOCRAFTER_ROOT names no VideoCrafter checkout")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"VideoCrafter's own code needs {', '.join(missing)}")
    declare_torchvision_operators()
    return Path(root)


_declared: list[torch.library.Library] = []
_OPERATORS = (
    *("nms", "qnms", "roi_align", "_roi_align_backward", "roi_pool", "_roi_pool_backward", "ps_roi_align"),
    *("_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d", "_deform_conv2d_backward"),
)


def declare_torchvision_operators() -> None:
    """Registry wheels of torchvision register CUDA operators that a CPU torch lacks; importing it needs their names."""
    if _declared or torch.cuda.is_available():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor input) -> Tensor")
    _declared.append(library)


def write_config(folder: Path, image: bool, published: bool = False) -> Path:
    """A tiny config of the real classes: DDIM scale, frame rate, temporal convolution and attention.

    With `published`, the image embedder and the Resampler of the published image-to-video configuration.
    """
    import open_clip

    tiny = {
        "embed_dim": WIDTH,
        "vision_cfg": {
            **{"image_size": 224, "layers": 1, "head_width": 16, "patch_size": 112},
            # The host fixes what its Resampler takes.
            "width": 1280 if published else 32,
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 16, "layers": 2},
    }
    (folder / "tiny-clip.json").write_text(json.dumps(tiny), encoding="utf-8")
    open_clip.add_model_config(folder / "tiny-clip.json")
    unet = {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "attention_resolutions": [2, 1],
        "num_res_blocks": 1,
        "channel_mult": [1, 2],
        "num_head_channels": 16,
        "transformer_depth": 1,
        "context_dim": WIDTH,
        "use_linear": True,
        "use_checkpoint": True,
        "temporal_conv": True,
        "temporal_attention": True,
        "temporal_selfatt_only": True,
        "use_relative_position": False,
        "use_causal_attention": False,
        "temporal_length": 4,
        "addition_attention": True,
        "fps_cond": True,
        **({"use_image_attention": True} if image else {}),
    }
    vae = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    text = {"arch": "tiny-clip", "freeze": True, "layer": "penultimate"}
    params = {
        "linear_start": 0.00085,
        "linear_end": 0.012,
        "num_timesteps_cond": 1,
        "timesteps": 1000,
        "conditioning_key": "crossattn",
        "image_size": [16, 16],
        "channels": 4,
        "scale_factor": 0.18215,
        "use_ema": False,
        "uncond_type": "empty_seq",
        "use_scale": True,
        "scale_b": 0.7,
        "unet_config": {"target": "lvdm.modules.networks.openaimodel3d.UNetModel", "params": unet},
        "first_stage_config": {
            "target": "lvdm.models.autoencoder.AutoencoderKL",
            "params": {"embed_dim": 4, "ddconfig": vae, "lossconfig": {"target": "torch.nn.Identity"}},
        },
        "cond_stage_config": {"target": "lvdm.modules.encoders.condition.FrozenOpenCLIPEmbedder", "params": text},
    }
    if image:
        params["cond_img_config"] = {
            "target": "lvdm.modules.encoders.condition.FrozenOpenCLIPImageEmbedder",
            "params": {"arch": "tiny-clip", "version": "", "freeze": True},
        }
    if published:
        params["finegrained"] = True
        params["cond_img_config"]["target"] += "V2"
    name = "LatentVisualDiffusion" if image else "LatentDiffusion"
    path = folder / ("i2v.yaml" if image else "t2v.yaml")
    path.write_text(yaml.safe_dump({"model": {"target": f"lvdm.models.ddpm3d.{name}", "params": params}}))
    return path


def write_checkpoint(root: Path, config: Path) -> Path:
    """A checkpoint of that config whose zero weights (an untrained network predicts 0) are filled."""
    from omegaconf import OmegaConf

    from nc_refiner.adapters.videocrafter.checkout import isolated

    with isolated(root), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        from utils.utils import instantiate_from_config

        model = instantiate_from_config(OmegaConf.load(config).model)
        with torch.no_grad():
            for parameter in model.parameters():
                if not bool(parameter.any()):
                    parameter.normal_(0, 0.05)
    path = config.with_suffix(".ckpt")
    torch.save({"state_dict": model.state_dict()}, path)
    return path


def load_sampling(root: Path):
    """The host's `scripts/evaluation/funcs.py`, whose sampler no longer insists on CUDA."""
    from nc_refiner.adapters.videocrafter.checkout import isolated

    with isolated(root):
        spec = importlib.util.spec_from_file_location("videocrafter_funcs", root / "scripts/evaluation/funcs.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    stock = module.DDIMSampler

    class AnywhereSampler(stock):
        def register_buffer(self, name, attr):
            setattr(self, name, attr)

    module.DDIMSampler = AnywhereSampler
    return module
