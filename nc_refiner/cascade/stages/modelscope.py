"""ModelScope's base models: `base: {type: modelscope}` from text, `base: {type: modelscope_image}` from a picture."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ...files import PICTURE_SUFFIXES
from .base import Source, Stage, StageOptions, StageRequest, StageResult
from .file import files_at
from .registry import register_stage

__all__ = ["ModelScopeImageOptions", "ModelScopeImageStage", "ModelScopeOptions", "ModelScopeStage"]

Size = Annotated[int, Field(ge=64, le=4096, multiple_of=64)]


class ModelScopeOptions(StageOptions):
    """The model.

    Attributes:
        model: name on the hub or a folder; the default is the public text-to-video model.
        device: torch device; None is CUDA where there is one.
        height, width: in pixels, multiples of 64, for nothing else comes out of this network; None is the model's own.
            The refiner after it takes any size.
    """

    type: Literal["modelscope"] = "modelscope"
    model: Annotated[str, Field(min_length=1)] = "damo/text-to-video-synthesis"
    device: str | None = None
    height: Size | None = None
    width: Size | None = None


class ModelScopeImageOptions(StageOptions):
    """The model and its pictures; size and number of frames are the model's own.

    Attributes:
        image: a picture, or a folder of them for one clip each; relative to the working directory.
        model: name on the hub or a folder; the default is the public image-to-video model.
        device: torch device; None is CUDA where there is one.
    """

    type: Literal["modelscope_image"] = "modelscope_image"
    image: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)] = "damo/Image-to-Video"
    device: str | None = None


class _ModelScopeStage(Stage):
    _model: Any = None

    def check(self) -> None:
        """ImportError where ModelScope is missing, with the install command."""
        from ...adapters.modelscope.diagnosis import require_modelscope

        require_modelscope()

    def close(self) -> None:
        self._model = None


@register_stage("base", "modelscope")
class ModelScopeStage(_ModelScopeStage):
    """Samples one clip for each prompt, from the seed alone."""

    Options = ModelScopeOptions

    def load(self) -> None:
        from ...adapters.modelscope.sources import TextToVideo

        self._model = TextToVideo(self.options.model, device=self.options.device)

    def run(self, request: StageRequest) -> StageResult:
        """Generate; ValueError without a prompt."""
        if not request.prompt:
            raise ValueError("base 'modelscope' needs a prompt; give 'prompt' in the config or --prompt-file")
        size = {"height": self.options.height, "width": self.options.width}
        clip = self._model(request.prompt, request.seed, **size)
        request.on_step("generate")
        return StageResult(clip, {"model": self.options.model})


@register_stage("base", "modelscope_image")
class ModelScopeImageStage(_ModelScopeStage):
    """Samples one clip for each picture, from the seed alone. Prompts are for the refiner: this model takes none."""

    Options = ModelScopeImageOptions

    def check(self) -> None:
        """ValueError (a `VideoError`) for a picture that is not there or cannot be read; ImportError as ever."""
        from ...video.limits import ReadLimits
        from ...video.still import inspect_still

        for source in self.sources():
            inspect_still(source.path, ReadLimits())
        super().check()

    def sources(self) -> list[Source]:
        return [
            Source(path.stem, None, path)
            for path in files_at(self.options.image, "base.image", "picture", PICTURE_SUFFIXES)
        ]

    def load(self) -> None:
        from ...adapters.modelscope.sources import ImageToVideo

        self._model = ImageToVideo(self.options.model, device=self.options.device)

    def run(self, request: StageRequest) -> StageResult:
        """Generate from the picture of this request."""
        assert request.source is not None
        clip = self._model(request.prompt, request.seed, image=request.source.path)
        request.on_step("generate")
        return StageResult(clip, {"model": self.options.model, "input": str(request.source.path)})
