"""`base: {type: modelscope}`: ModelScope's text-to-video-synthesis."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .base import Stage, StageOptions, StageRequest, StageResult
from .registry import register_stage

__all__ = ["ModelScopeOptions", "ModelScopeStage"]


class ModelScopeOptions(StageOptions):
    """The model.

    Attributes:
        model: name on the hub or a folder; the default is the public text-to-video model.
        device: torch device; None is CUDA where there is one.
        height, width: in pixels; None is the model's own.
    """

    type: Literal["modelscope"] = "modelscope"
    model: Annotated[str, Field(min_length=1)] = "damo/text-to-video-synthesis"
    device: str | None = None
    height: Annotated[int, Field(ge=64, le=4096, multiple_of=8)] | None = None
    width: Annotated[int, Field(ge=64, le=4096, multiple_of=8)] | None = None


@register_stage("base", "modelscope")
class ModelScopeStage(Stage):
    """Samples one clip for each prompt, from the seed alone."""

    Options = ModelScopeOptions
    _source: Any = None

    def check(self) -> None:
        """ImportError where ModelScope is missing, with the install command."""
        from ...adapters.modelscope.loading import require_modelscope

        require_modelscope()

    def load(self) -> None:
        from ...adapters.modelscope.sources import TextToVideo

        self._source = TextToVideo(self.options.model, device=self.options.device)

    def close(self) -> None:
        self._source = None

    def run(self, request: StageRequest) -> StageResult:
        """Generate; ValueError without a prompt."""
        if not request.prompt:
            raise ValueError("base 'modelscope' needs a prompt; give 'prompt' in the config or --prompt-file")
        size = {name: getattr(self.options, name) for name in ("height", "width")}
        given = {name: value for name, value in size.items() if value is not None}
        clip = self._source(request.prompt, request.seed, **given)
        request.on_step("generate")
        return StageResult(clip, {"model": self.options.model})
