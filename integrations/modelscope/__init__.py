"""Registers `nc-video-to-video` with ModelScope: its video-to-video pipeline, calibrated, with a safe writer.

import nc_refiner.integrations.modelscope
from modelscope.pipelines import pipeline

pipe = pipeline("video-to-video", "damo/Video-to-Video", pipeline_name="nc-video-to-video", iterations=3)
pipe({"video_path": "in.mp4", "text": "a camel"}, output_video="out.mp4")
"""

from .video_to_video import PIPELINE_NAME, CalibratedVideoToVideoPipeline

__all__ = ["PIPELINE_NAME", "CalibratedVideoToVideoPipeline"]
