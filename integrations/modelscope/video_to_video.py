"""The pipeline that ModelScope builds for `pipeline_name='nc-video-to-video'`."""

from __future__ import annotations

import inspect
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from nc_refiner.adapters.modelscope.diagnosis import require_modelscope
from nc_refiner.adapters.modelscope.host import calibrated_model, check_pipeline, check_target
from nc_refiner.adapters.modelscope.solving import check_calibrate_at
from nc_refiner.adapters.modelscope.stand_ins import missing_imports_stood_in
from nc_refiner.calibration import NoiseCalibration
from nc_refiner.clip import VideoClip
from nc_refiner.naming import did_you_mean
from nc_refiner.video import probe, write_clip

require_modelscope()
with missing_imports_stood_in():
    from modelscope.models.multi_modal.video_to_video.video_to_video_model import VideoToVideo  # noqa: F401
    from modelscope.outputs import OutputKeys
    from modelscope.pipelines.base import Pipeline
    from modelscope.pipelines.builder import PIPELINES
    from modelscope.pipelines.multi_modal.video_to_video_pipeline import VideoToVideoPipeline

__all__ = ["PIPELINE_NAME", "CalibratedVideoToVideoPipeline"]

PIPELINE_NAME = "nc-video-to-video"
_HOSTS_OWN = {"compile", "compile_options", "trust_remote_code"} | set(inspect.signature(Pipeline.__init__).parameters)
_HOSTS_OWN -= {"self", "kwargs", "model"}


@PIPELINES.register_module("video-to-video", module_name=PIPELINE_NAME)
class CalibratedVideoToVideoPipeline(VideoToVideoPipeline):
    """ModelScope's video-to-video with noise calibration; the video keeps the input's frame rate.

    Args:
        model: id on the hub or a folder.
        calibrate_at: see `nc_refiner.adapters.modelscope.host.wrap`.
        options: fields of `NoiseCalibration`, and those of ModelScope's own `Pipeline`.

    `calibration_trace` holds the content loss of the latest call.

    Raises:
        TypeError: an option of neither, which ModelScope itself would pass over.
        ValueError: an option out of range, or a model of another kind.
    """

    def __init__(self, model: str, calibrate_at: str = "x_t", **options: Any):
        at = check_calibrate_at(calibrate_at)
        ours = {f.name: options.pop(f.name) for f in fields(NoiseCalibration) if f.name in options}
        allowed = sorted({f.name for f in fields(NoiseCalibration)} | _HOSTS_OWN | {"calibrate_at"})
        for name in options:
            if name not in allowed:
                hint = did_you_mean(name, allowed, before="; ")
                raise TypeError(f"{PIPELINE_NAME} takes no {name!r}; allowed: {', '.join(allowed)}{hint}")
        config = NoiseCalibration(**ours)
        super().__init__(model=model, **options)
        check_pipeline(self)
        if next(self.model.generator.parameters()).device.type == "cpu":
            self.model.generator.float()
        self.model = calibrated_model(self.model, config, at, self)
        self.models = [self.model]

    def _process_single(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        check_target((kwargs.get("postprocess_params") or {}).get("output_video"), shell=False)
        return super()._process_single(input, *args, **kwargs)

    def preprocess(self, input: Any, **params: Any) -> dict[str, Any]:
        """As ModelScope's, and the input's frame rate beside it."""
        return {**super().preprocess(input, **params), "fps": probe(input["video_path"]).fps}

    def forward(self, input: dict[str, Any], **params: Any) -> dict[str, Any]:
        """As ModelScope's, handing the frame rate on."""
        return {**super().forward(input, **params), "fps": input["fps"]}

    def postprocess(self, inputs: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Write `output_video` whole or not at all; without it, return the file's bytes, as ModelScope does."""
        video: torch.Tensor = inputs["video"]
        clip = VideoClip((video[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1), float(inputs["fps"]))
        target = params.get("output_video")
        if target is not None:
            write_clip(clip, target)
            return {OutputKeys.OUTPUT_VIDEO: target}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            write_clip(clip, path)
            return {OutputKeys.OUTPUT_VIDEO: path.read_bytes()}
