"""Real ModelScope pipelines on tiny random weights, in folders of the layout the hub has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn

from nc_refiner.adapters.modelscope.stand_ins import missing_imports_stood_in

UNET: dict[str, Any] = {"dim": 32, "dim_mult": [1, 1, 1, 1], "num_heads": 2, "head_dim": 16, "num_res_blocks": 1}
VAE: dict[str, Any] = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}
CHECKPOINTS = {"ckpt_unet": "unet.pth", "ckpt_clip": "clip.bin", "ckpt_autoencoder": "vae.ckpt"}
CLIP = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 64, "head_width": 32, "patch_size": 112},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 2},
}


def filled(network: nn.Module, seed: int, scale: float = 1.0) -> nn.Module:
    """The same network with every zero-initialised weight made random, so that it predicts something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale / fan**0.5)
    return network


def _autoencoder(network: nn.Module, path: Path) -> None:
    state = {f"first_stage_model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state}, path)


def _clip(path: Path) -> None:
    import open_clip

    torch.manual_seed(5)
    torch.save(open_clip.create_model("ViT-H-14", pretrained=None).state_dict(), path)


@contextmanager
def tiny_models() -> Iterator[None]:
    """Inside, all three models are built of the host's own classes at tiny sizes; nothing else is another."""
    import open_clip

    with missing_imports_stood_in():
        import modelscope.models.multi_modal.image_to_video.modules
        import modelscope.models.multi_modal.video_to_video.video_to_video_model  # noqa: F401
    with (
        mock.patch.dict(open_clip.factory._MODEL_CONFIGS, {"ViT-H-14": CLIP}),
        _tiny_video_to_video(),
        _tiny_text_to_video(),
        _tiny_image_to_video(),
    ):
        yield


@contextmanager
def _tiny_video_to_video(size: tuple[int, int] = (80, 64)) -> Iterator[None]:
    """The host stretches clips to `size` instead of 720×1280."""
    import modelscope.models.multi_modal.video_to_video.video_to_video_model as host

    def stretch(video: torch.Tensor, size_asked: Any = None, **options: Any) -> torch.Tensor:
        return nn.functional.interpolate(video, size=size, mode=options["mode"])

    stand_in = SimpleNamespace(interpolate=lambda video, size, mode: stretch(video, size, mode=mode))
    with (
        mock.patch.object(host, "Vid2VidSDUNet", partial(host.Vid2VidSDUNet, **UNET)),
        mock.patch.object(host, "F", stand_in),
        mock.patch.dict(host.cfg.auto_encoder.ddconfig, VAE),
    ):
        yield


@contextmanager
def _tiny_text_to_video() -> Iterator[None]:
    """The size of its network stands in its folder; that of its VAE does not."""
    from modelscope.models.multi_modal.video_synthesis import text_to_video_synthesis_model as host

    real = host.AutoencoderKL
    with mock.patch.object(host, "AutoencoderKL", lambda config, *rest: real({**config, **VAE}, *rest)):
        yield


@contextmanager
def _tiny_image_to_video() -> Iterator[None]:
    """Its model's own module is not imported here: under `nc_refiner` alone it can be."""
    from modelscope.models.multi_modal.image_to_video.utils.config import cfg

    with mock.patch.dict(cfg.UNet, UNET), mock.patch.dict(cfg.auto_encoder.ddconfig, VAE):
        yield


def write_video_to_video(folder: Path, solver_mode: str = "fast") -> Path:
    """A model folder for `pipeline('video-to-video', folder)`; call inside `tiny_models`."""
    import modelscope.models.multi_modal.video_to_video.video_to_video_model as host

    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": filled(host.Vid2VidSDUNet(), 1).state_dict()}, folder / "unet.pth")
    dd = {**host.cfg.auto_encoder.ddconfig}
    _autoencoder(filled(host.AutoencoderKL(dd, 4), 2), folder / "vae.ckpt")
    _clip(folder / "clip.bin")
    _configuration(
        folder,
        "video-to-video",
        "video-to-video-model",
        "video-to-video-pipeline",
        {**CHECKPOINTS, "solver_mode": solver_mode, "seed": 3},
        {"batch_size": 1, "target_fps": 8, "max_frames": 32, "latent_hei": 10, "latent_wid": 8},
    )
    return folder


def write_text_to_video(folder: Path) -> Path:
    """A model folder for `pipeline('text-to-video-synthesis', folder)`; call inside `tiny_models`."""
    from modelscope.models.multi_modal.video_synthesis import text_to_video_synthesis_model as host

    folder.mkdir(parents=True, exist_ok=True)
    shape = {
        "in_dim": 4, "dim": 32, "y_dim": 768, "context_dim": 1024, "out_dim": 4, "dim_mult": [1, 1, 1, 1],
        "num_heads": 2, "head_dim": 16, "res_blocks": 1, "attn_scales": [1, 0.5, 0.25], "dropout": 0.0,
    }  # fmt: skip
    arguments = {("num_res_blocks" if name == "res_blocks" else name): value for name, value in shape.items()}
    network = filled(host.UNetSD(**arguments, temporal_attention=True), 7)
    torch.save(network.state_dict(), folder / "unet.pth")
    _autoencoder(filled(host.AutoencoderKL(_SD_VAE, 4), 8), folder / "vae.ckpt")
    _clip(folder / "clip.bin")
    _configuration(
        folder,
        "text-to-video-synthesis",
        "latent-text-to-video-synthesis",
        "latent-text-to-video-synthesis",
        {**CHECKPOINTS, "max_frames": 4, "tiny_gpu": 0},
        {**{f"unet_{name}": value for name, value in shape.items()}, "temporal_attention": "True",
         "num_timesteps": 1000, "mean_type": "eps", "var_type": "fixed_small", "loss_type": "mse"},
    )  # fmt: skip
    return folder


_SD_VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "attn_resolutions": [],
    "dropout": 0.0, **VAE,
}  # fmt: skip


def write_image_to_video(folder: Path) -> Path:
    """A model folder for `pipeline('image-to-video', folder)`, 4 frames of 64×128; call inside `tiny_models`."""
    from modelscope.models.multi_modal.image_to_video.modules import AutoencoderKL, Img2VidSDUNet
    from modelscope.models.multi_modal.image_to_video.utils.config import cfg

    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": filled(Img2VidSDUNet(**cfg.UNet), 11).state_dict()}, folder / "unet.pth")
    _autoencoder(filled(AutoencoderKL({**cfg.auto_encoder.ddconfig}, 4), 12), folder / "vae.ckpt")
    _clip(folder / "clip.bin")
    _configuration(
        folder,
        "image-to-video",
        "image-to-video-model",
        "image-to-video-task-pipeline",
        {**CHECKPOINTS, "seed": 3},
        {"batch_size": 1, "target_fps": 8, "max_frames": 4, "latent_hei": 8, "latent_wid": 16},
    )
    return folder


def _configuration(
    folder: Path, task: str, model: str, pipeline: str, arguments: dict[str, Any], shape: dict[str, Any]
) -> None:
    content = {
        "framework": "pytorch",
        "task": task,
        "model": {"type": model, "model_args": arguments, "model_cfg": shape},
        "pipeline": {"type": pipeline},
    }
    (folder / "configuration.json").write_text(json.dumps(content), encoding="utf-8")
