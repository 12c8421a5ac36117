"""Metrics by trained networks over frames `(F, 3, H, W)`, RGB in [0, 1]; their weights are files that the user names.

Nothing is downloaded: a file that is missing is told with its source and the flag that takes it.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .extras import needs
from .prepared import checked_frames, prepared_pair

__all__ = ["ClipIqa", "Lpips", "load_tensors", "unmoved"]

CLIP_SOURCE = "huggingface.co/openai/clip-vit-base-patch16"
ALEXNET = "alexnet-owt-7be5be79.pth"
ALEXNET_SOURCE = f"download.pytorch.org/models/{ALEXNET}"


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a `.safetensors` or `.pth` file; nothing in the file is run. ValueError where it holds others."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # reading what is damaged raises nearly anything; for a person it is all one
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{path}: cannot be read as weights ({reason})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path}: holds no plain table of tensors (a state dict)")
    return found


@contextlib.contextmanager
def unmoved() -> Iterator[None]:
    """Networks built inside neither print, nor warn, nor move the global random state."""
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _ClipFeatures(nn.Module):
    """CLIP whose features are tensors in every version of transformers."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def get_image_features(self, *inputs: Any) -> Tensor:
        return self._tensor(self.model.get_image_features(*inputs))

    def get_text_features(self, *inputs: Any) -> Tensor:
        return self._tensor(self.model.get_text_features(*inputs))

    @staticmethod
    def _tensor(found: Any) -> Tensor:
        # Since version 5 the projected features come in an object.
        return found if isinstance(found, Tensor) else found.pooler_output


class ClipIqa:
    """CLIP-IQA (Wang et al. 2023, by torchmetrics): how much more "Good photo." than "Bad photo." CLIP sees.

    The paper's own variant is a ResNet-50 without position embedding; this takes any CLIP, and numbers of different
    ones cannot be compared.

    Args:
        folder: a CLIP model in the transformers layout; None where the user named none.
        device: torch device.

    Raises:
        FileNotFoundError: no such folder, or it has no model.
        ImportError: transformers is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, device: str = "cpu"):
        if folder is None or not (Path(folder) / "config.json").is_file():
            missing = "" if folder is None else f" ({Path(folder) / 'config.json'} is missing)"
            raise FileNotFoundError(
                f"CLIP-IQA needs a folder with a CLIP model{missing}: get {CLIP_SOURCE} and pass --clip-weights FOLDER"
            )
        with needs("transformers", "transformers", "learned"):
            from transformers import CLIPModel, CLIPProcessor
        try:
            with unmoved():
                model = CLIPModel.from_pretrained(str(folder), local_files_only=True)
                processor = CLIPProcessor.from_pretrained(str(folder), local_files_only=True)
        except OSError as error:
            line = str(error).splitlines()[0]
            raise FileNotFoundError(f"CLIP-IQA: {folder} is not a whole CLIP model ({line})") from error
        # It would divide by 255 whatever it is given, and frames in [0, 1] reach the network nearly black.
        processor.image_processor.do_rescale = False
        self._parts = _ClipFeatures(model).eval().to(device), processor
        self._device = device

    def __call__(self, frames: Tensor) -> Tensor:
        """`(F,)` float64 in [0, 1], higher is better. ValueError for NaN, another shape, or no frame."""
        from torchmetrics.functional.multimodal import clip_image_quality_assessment

        checked = checked_frames("frames", frames).float()
        pixels = checked.clamp(0, 1).to(self._device)
        with torch.inference_mode():
            source: Any = lambda: self._parts  # noqa: E731
            found: Any = clip_image_quality_assessment(pixels, model_name_or_path=source, data_range=1.0)
        return found.reshape(-1).double().cpu()


class Lpips:
    """LPIPS 0.1 over AlexNet (Zhang et al. 2018, by the lpips package): perceptual distance, 0 for equal frames.

    Args:
        weights: AlexNet's ImageNet weights as torchvision publishes them; None where the user named none.
        device: torch device.

    Raises:
        FileNotFoundError: no such file.
        ImportError: lpips or torchvision is not installed.
        ValueError: the file holds other weights.
    """

    def __init__(self, weights: str | os.PathLike[str] | None, device: str = "cpu"):
        if weights is None or not Path(weights).is_file():
            missing = "" if weights is None else f" ({weights} is missing)"
            raise FileNotFoundError(
                f"LPIPS needs AlexNet's weights{missing}: get {ALEXNET_SOURCE} and pass --lpips-weights FILE"
            )
        tensors = load_tensors(Path(weights))
        with needs("torchvision", "torchvision", "learned"), needs("lpips", "lpips", "learned"):
            import lpips
        # The package would download the backbone: it is built at random here and every one of its tensors replaced.
        with unmoved():
            network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        replaced = {}
        for name, value in network.net.state_dict().items():
            source = "features." + name.partition(".")[2]
            if source not in tensors or tensors[source].shape != value.shape:
                raise ValueError(
                    f"{weights}: is not AlexNet, {source} is missing or of another shape; get {ALEXNET_SOURCE}"
                )
            replaced[name] = tensors[source]
        network.net.load_state_dict(replaced)
        self._network = network.eval().to(device)
        self._device = device

    def __call__(self, reference: Tensor, output: Tensor) -> Tensor:
        """`(F,)` float64, at least 0, lower is nearer. ValueError for NaN, shapes that differ, or no frame."""
        pair = prepared_pair(reference, output)
        a, b = pair.reference.frames, pair.output.frames
        with torch.inference_mode():
            found = self._network(a.float().to(self._device), b.float().to(self._device), normalize=True)
        return found.reshape(-1).double().cpu()
