"""One tiny Stable Diffusion UNet, as diffusers builds it and as ComfyUI does, with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..adapters.diffusers.tiny_parts import seeded
from .comfyui_rig import Rig

CONTEXT = 32


def diffusers_unet() -> Any:
    """32 and 64 channels, one block each, attention in the second: the least that ComfyUI's class can be, too."""
    from diffusers import UNet2DConditionModel

    config = dict(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=CONTEXT,
        attention_head_dim=4,
        norm_num_groups=32,
    )
    return seeded(UNet2DConditionModel(**config), 4)


def tiny_unet(comfy: SimpleNamespace, kind: str = "EPS") -> Any:
    """A ModelPatcher over ComfyUI's own UNet class, which holds the weights of `diffusers_unet`."""
    unet = dict(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=32,
        num_res_blocks=[1, 1],
        channel_mult=[1, 2],
        use_spatial_transformer=True,
        transformer_depth=[0, 1],
        transformer_depth_output=[0, 0, 1, 1],
        transformer_depth_middle=1,
        context_dim=CONTEXT,
        use_linear_in_transformer=False,
        legacy=False,
        dtype=torch.float32,
    )
    config = comfy.supported_models_base.BASE(dict(unet))
    config.manual_cast_dtype = None
    config.unet_config.update(num_heads=4, num_head_channels=-1)
    model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType[kind])
    names = comfy.utils.unet_to_diffusers(unet)
    theirs = diffusers_unet().state_dict()
    weights = {names[name]: value for name, value in theirs.items()}
    model.diffusion_model.load_state_dict(weights, strict=True)
    model.eval().requires_grad_(False)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


@contextmanager
def controlled(comfy: SimpleNamespace, rig: Rig) -> Iterator[SimpleNamespace]:
    """While this lives, the rig's prompts carry a ControlNet; what is handed out counts how often it was asked."""
    asked = SimpleNamespace(count=0)

    class Hint(comfy.controlnet.ControlBase):  # type: ignore[name-defined,misc]
        """Adds the same small hint to the middle of the UNet, for whatever it is asked."""

        def get_control(self, x: Tensor, t: Tensor, cond: Any, batched: int, transformer_options: Any) -> Any:
            asked.count += 1
            hint = 0.5 * torch.ones((x.shape[0], 64, x.shape[2] // 2, x.shape[3] // 2))
            return self.control_merge({"input": [], "middle": [hint], "output": []}, None, None)

    control = Hint()
    rig.conditions = {"control": control, "control_apply_to_uncond": True}
    try:
        yield asked
    finally:
        rig.conditions = {}
