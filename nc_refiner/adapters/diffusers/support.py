"""Which pipelines and calls can be calibrated, by which engine, and why not."""

from __future__ import annotations

import inspect
from typing import Any

from ...calibration import NoiseCalibration
from .errors import NotSDEdit
from .hand_noised import is_hand_noised
from .sharing import cached_parts

__all__ = [
    "VIDEO_TWINS",
    "call_parameters",
    "check_call",
    "check_pipeline",
    "guidance_argument",
    "keeps_nothing",
    "noises_something",
    "parameters_of",
    "reason_for_replay",
    "refusal",
]

REFUSED = {
    "AmusedImg2ImgPipeline": "noises by masking tokens, which have no α and σ",
    "AmusedInpaintPipeline": "noises by masking tokens, which have no α and σ",
    "CycleDiffusionPipeline": "encodes the source by its own inversion, step by step; it does not start from one noise",
    "IFSuperResolutionPipeline": "noises the small picture it is conditioned on; its own starts from pure noise",
    "KandinskyImg2ImgCombinedPipeline": "runs another pipeline inside; wrap its `decoder_pipe` instead",
    "KandinskyV22Img2ImgCombinedPipeline": "runs another pipeline inside; wrap its `decoder_pipe` instead",
    "KandinskyV22PriorEmb2EmbPipeline": "noises an embedding, which has no height and width to filter",
    "KandinskyV22InpaintPipeline": "fills a mask from pure noise; the picture is noised only to be put back around it",
    "LTX2DFRPipeline": "noises its tokens to levels of their own, those of its keyframe slots among them",
    "LTX2DFRTemporalRefinePipeline": "noises its tokens to levels of their own, tile by tile",
    "LTX2HDRPipeline": "takes its video as a reference that is hardly noised; what it makes starts from pure noise",
    "LTX2ImageToVideoPipeline": "keeps its first frame clean, so its tokens have noise levels of their own",
    "LTXImageToVideoPipeline": "starts from pure noise; `decode_noise_scale` is noise for its decoder",
    "LTXPipeline": "starts from pure noise; `decode_noise_scale` is noise for its decoder",
    "OnnxStableDiffusionImg2ImgPipeline": "computes in numpy through ONNX; use StableDiffusionImg2ImgPipeline",
    "RFD4ProteinaPipeline": "makes protein structures, which have no height and width to filter",
    "SanaSprintImg2ImgPipeline": "noises by hand on a trigonometric schedule its scheduler does not share",
    "StableDiffusionDiffEditPipeline": "starts from latents that were inverted, and noises only to find its mask",
    "StableDiffusionGLIGENPipeline": "starts from pure noise; what it noises is put back around a mask",
    "StableDiffusionGLIGENTextImagePipeline": "starts from pure noise; what it noises is put back around a mask",
    "StableDiffusionSAGPipeline": "starts from pure noise; it noises blurred estimates to guide itself",
    "StableDiffusionUpscalePipeline": "noises the small picture it is conditioned on; its own starts from pure noise",
    "StableUnCLIPImg2ImgPipeline": "noises an image embedding, which has no height and width to filter",
    "StableUnCLIPPipeline": "noises an image embedding, which has no height and width to filter",
    "VisualClozeGenerationPipeline": "noises its grid of pictures wholly (strength 1), so nothing of it is kept",
    "VisualClozePipeline": "runs two pipelines inside; wrap its `upsampling_pipe` instead",
}
"""Pipelines that noise something and are refused by name: their call would only fail later and less clearly."""

VIDEO_TWINS = {
    "AnimateDiffControlNetPipeline": "AnimateDiffVideoToVideoControlNetPipeline",
    "AnimateDiffPipeline": "AnimateDiffVideoToVideoPipeline",
    "CogVideoXPipeline": "CogVideoXVideoToVideoPipeline",
    "TextToVideoSDPipeline": "VideoToVideoSDPipeline",
    "WanPipeline": "WanVideoToVideoPipeline",
}
"""Text-to-video pipelines and the one that refines with the same weights."""

_STRENGTHS = ("strength", "denoise_strength")
_NOISING = ("scheduler.add_noise(", "scheduler.scale_noise(", "_create_noised_state(", "noise_scale * ")
_COUNTS_STEPS = {"control_guidance_start": 0.0, "control_guidance_end": 1.0}
"""Arguments whose meaning depends on the number of timesteps, and the value at which it does not."""


def call_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The arguments that a call of the class takes; a subclass that hands on `*args, **kwargs` takes its base's."""
    found: dict[str, inspect.Parameter] = {}
    for parent in cls.__mro__:
        call = vars(parent).get("__call__")
        if call is None:
            continue
        parameters = list(inspect.signature(call).parameters.values())[1:]
        named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        found = {**{one.name: one for one in named}, **found} if found else {one.name: one for one in named}
        if len(named) == len(parameters) or not any(one.kind is one.VAR_POSITIONAL for one in parameters):
            break
    return found


def parameters_of(pipe: Any) -> list[str]:
    """Names of the arguments of the pipeline's call."""
    return list(call_parameters(type(pipe)))


def keeps_nothing(pipe: Any, arguments: dict[str, Any]) -> bool:
    """Whether this call of an inpainting pipeline is at strength 1, where it starts from pure noise by a way of its
    own and noises nothing."""
    strength = call_parameters(type(pipe)).get("strength")
    if strength is None or arguments.get("strength", strength.default) != 1:
        return False
    return "is_strength_max" in inspect.signature(getattr(pipe, "prepare_latents", keeps_nothing)).parameters


def refusal(cls: type) -> str | None:
    """Why pipelines of this class cannot be calibrated; None where nothing speaks against it."""
    for parent in cls.__mro__:
        if parent.__name__ in REFUSED:
            return REFUSED[parent.__name__]
    if is_hand_noised(cls):
        return None
    if not any(name in call_parameters(cls) for name in _STRENGTHS):
        return "takes no `strength`: it does not start from a noised input (SDEdit)"
    return None


def noises_something(cls: type) -> bool:
    """Whether a pipeline class looks as if it noised an input: by the arguments of its call, or by its code.

    What it noises may be another thing than what it makes; `refusal` and a first call tell.
    """
    if {*_STRENGTHS, "noise_scale", "upsampling_strength", "video"} & set(call_parameters(cls)):
        return True
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        return False
    return any(word in source for word in _NOISING)


def check_pipeline(pipe: Any) -> None:
    """Refuse what is not SDEdit, with the reason and what would work.

    Raises:
        NotSDEdit: see `refusal`; also a pipeline without a scheduler.
    """
    reason = refusal(type(pipe))
    if reason is None and getattr(pipe, "scheduler", None) is None:
        reason = "has no scheduler of its own"
    if reason is not None:
        twin = next((VIDEO_TWINS[cls.__name__] for cls in type(pipe).__mro__ if cls.__name__ in VIDEO_TWINS), None)
        other = f"diffusers.{twin}" if twin else "AutoPipelineForImage2Image"
        raise NotSDEdit(
            f"{type(pipe).__name__} cannot be calibrated: it {reason}. What works: an image-to-image or video-to-video "
            f"pipeline, for example the same weights through {other}.from_pipe(pipe)"
        )


def check_call(pipe: Any, arguments: dict[str, Any]) -> None:
    """Refuse calls that noise nothing.

    Raises:
        NotSDEdit: `denoising_start`, `latents` or FreeInit.
    """
    name = type(pipe).__name__
    if arguments.get("denoising_start") is not None:
        raise NotSDEdit(
            f"{name}: with denoising_start={arguments['denoising_start']} the input is taken as already noised and "
            "nothing is noised here. Refine the finished image with `strength` instead, or use iterations=0"
        )
    if arguments.get("latents") is not None and not is_hand_noised(type(pipe)):
        raise NotSDEdit(
            f"{name}: with latents= the call does not start from noise on the input. Leave latents away, or use "
            "iterations=0"
        )
    if getattr(pipe, "free_init_enabled", False):
        raise NotSDEdit(
            f"{name}: FreeInit noises again between several rounds, which calibration would work against. "
            "Call pipe.disable_free_init(), or use iterations=0"
        )


def guidance_argument(pipe: Any) -> str:
    """The call's argument for classifier-free guidance.

    Raises:
        ValueError: the pipeline has none (a distilled guidance embedding is not one).
    """
    parameters = call_parameters(type(pipe))
    if "true_cfg_scale" in parameters:
        return "true_cfg_scale"
    network = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    distilled = getattr(getattr(network, "config", None), "guidance_embeds", False)
    if "guidance_scale" in parameters and not distilled:
        return "guidance_scale"
    raise ValueError(
        f"guidance_scale of the calibration was given, but {type(pipe).__name__} has no classifier-free guidance to "
        "change; leave it None"
    )


def _is_default(value: Any, default: float) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return all(v is None or float(v) == default for v in values)


def reason_for_replay(pipe: Any, arguments: dict[str, Any], config: NoiseCalibration) -> str | None:
    """Why this call should not be calibrated in the pipeline's own loop; None where it can."""
    from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

    if not hasattr(pipe, "get_timesteps"):
        return "the pipeline has no get_timesteps"
    if arguments.get("enforce_inference_steps"):
        return "enforce_inference_steps goes past get_timesteps"
    for name, default in _COUNTS_STEPS.items():
        if name in arguments and not _is_default(arguments[name], default):
            return f"{name} is counted in timesteps"
    if isinstance(arguments.get("callback_on_step_end"), (PipelineCallback, MultiPipelineCallbacks)):
        return "a PipelineCallback counts the steps itself"
    if arguments.get("callback") is not None:
        return "the deprecated `callback` is called by step numbers that cannot be shifted"
    for name in cached_parts(pipe):
        return f"a feature cache is on in `{name}`"
    if config.guidance_scale is not None:
        return "a guidance scale for the calibration alone cannot be set inside the loop"
    if config.tolerance is not None:
        return "stopping early cannot take steps out of the loop again"
    return None
