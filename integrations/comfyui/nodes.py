"""The two nodes, in ComfyUI's V3 schema; importing this needs ComfyUI."""

from __future__ import annotations

from typing import Any

from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io, ui

from nc_refiner.calibration import NoiseCalibration

from .calibrator import Calibrator
from .host import KEY, comfyui
from .report import plot, words

__all__ = ["CalibrationReport", "NoiseCalibrationNode"]

CATEGORY = "sampling/custom_sampling"


class NoiseCalibrationNode(io.ComfyNode):
    """MODEL in, MODEL out: a copy of the model whose samplers start from calibrated noise."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NoiseCalibration",
            display_name="Noise Calibration",
            category=CATEGORY,
            description="Keeps faces, text and colours through a second pass: corrects the noise before sampling so "
            "that the model's first estimate agrees with the input. Put it on the MODEL line in front of any sampler "
            "that starts from an image or video latent with denoise below 1.",
            inputs=[
                io.Model.Input("model", tooltip="The model of the second pass (the refiner)."),
                io.Int.Input(
                    "iterations",
                    default=3,
                    min=0,
                    max=100,
                    tooltip="How often the noise is corrected; each costs one evaluation of the model, and "
                    "reuse_prediction saves one. 1 to 3 is right, 0 switches calibration off, 10 over-sharpens.",
                ),
                io.Float.Input(
                    "cutoff",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Which frequencies are kept, as a part of all: 1 keeps everything, 0.5 keeps shapes and "
                    "colours and lets the model renew fine detail, 0 keeps nothing.",
                ),
                io.Boolean.Input(
                    "reuse_prediction",
                    default=True,
                    tooltip="Let the last correction's estimate serve the sampler's first step, where `guidance` is "
                    "the sampler's own: one evaluation fewer, so the first iteration costs nothing.",
                ),
                io.Float.Input(
                    "guidance",
                    default=-1.0,
                    min=-1.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance (cfg) while correcting. -1: the sampler's own. 1: without the negative prompt, "
                    "at half the cost.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where content is strict (white) and where the model is free (black): faces, text, logos. "
                    "Any size; one picture, or one for each frame or picture of the batch.",
                ),
                io.Float.Input(
                    "cutoff_outside",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="The cutoff where the mask is black; 0 leaves the model free there.",
                ),
                io.Combo.Input(
                    "objective",
                    options=["paper", "colour_safe"],
                    default="paper",
                    optional=True,
                    tooltip="colour_safe takes a smaller step with every iteration: colours hold at many of them.",
                ),
                io.Float.Input(
                    "cutoff_time",
                    default=1.0,
                    min=0.05,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="For videos: how quick a change over time is still corrected; 1 is all of it.",
                ),
                io.Float.Input(
                    "hold",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How far every later step is pulled to the input too, less and less; for samplers that add "
                    "noise of their own (SDE, ancestral). Costs nothing.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="A copy of the model; the one that came in is unchanged.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        iterations: int,
        cutoff: float,
        reuse_prediction: bool,
        guidance: float,
        mask: Any = None,
        cutoff_outside: float = 0.0,
        objective: str = "paper",
        cutoff_time: float = 1.0,
        hold: float = 0.0,
    ) -> Any:
        """A clone of `model` with the calibrating wrapper; one that was there already is replaced."""
        config = NoiseCalibration(
            iterations=iterations,
            cutoff=cutoff,
            guidance_scale=None if guidance < 0 else guidance,
            reuse_prediction=None if reuse_prediction else False,
            mask=mask,
            cutoff_outside=None if mask is None else cutoff_outside,
            objective=objective,  # type: ignore[arg-type]  # one of the list
            cutoff_time=cutoff_time,
            hold=hold,
        )
        patched = model.clone()
        patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
        patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, Calibrator(config, comfyui()))
        return io.NodeOutput(patched)


class CalibrationReport(io.ComfyNode):
    """The content loss of the latest run of a calibrated model, in words and as a plot."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NoiseCalibrationReport",
            display_name="Calibration Report",
            category=CATEGORY,
            description="Shows what Noise Calibration did: the content loss of the model's estimate at each iteration.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL that Noise Calibration gave out."),
                io.Latent.Input("latent", tooltip="What the sampler gave out, so that the report waits for it."),
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="The report in words."),
                io.Image.Output("plot", display_name="plot", tooltip="Content loss over the iterations."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: Any, latent: Any) -> Any:
        """The report of the latest run; `latent` only says that the sampler is done."""
        found = model.get_wrappers(WrappersMP.SAMPLER_SAMPLE, KEY)
        if not found:
            text, image = "This model did not pass through Noise Calibration.", plot(None)
        else:
            text, image = words(found[0].last), plot(found[0].last)
        shown = {**ui.PreviewImage(image, cls=cls).as_dict(), "text": (text,)}
        return io.NodeOutput(text, image, ui=shown)
