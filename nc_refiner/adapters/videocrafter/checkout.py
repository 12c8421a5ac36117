"""A model from a clone of VideoCrafter: imported beside whatever else is called `lvdm` or `utils`, then forgotten."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from .checkpoint import load_into

__all__ = ["build_network", "isolated", "load_model"]

_OWNED = ("lvdm", "utils")
_PACKAGES = "einops omegaconf pytorch_lightning open_clip_torch kornia transformers opencv-python-headless torchvision"


def _owned_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in _OWNED]


@contextmanager
def isolated(root: Path) -> Iterator[None]:
    """Inside the block `lvdm` and `utils` are those of the clone at `root`; afterwards what they were before.

    The host's two folders are namespace packages, before which a regular `utils` anywhere on the search path wins:
    they are put in place by hand, and the search path stays as it is. What is instantiated by name (`target:` in its
    configs) must be instantiated inside.

    Raises:
        FileNotFoundError: `root` is no clone of VideoCrafter.
    """
    absent = [name for name in _OWNED if not (root / name).is_dir()]
    if absent:
        raise FileNotFoundError(f"{root} is no VideoCrafter checkout: it has no folder {' and no '.join(absent)}")
    before = {name: sys.modules.pop(name) for name in _owned_modules()}
    importlib.invalidate_caches()
    try:
        for name in _OWNED:
            package = ModuleType(name)
            package.__path__ = [str(root.resolve() / name)]
            sys.modules[name] = package
        yield
    finally:
        for name in _owned_modules():
            del sys.modules[name]
        sys.modules.update(before)


def load_model(root: Path, config: Path, checkpoint: Path) -> torch.nn.Module:
    """The model that the host's `config` describes, with the weights of `checkpoint`, on the CPU in evaluation mode.

    Arguments and errors as `VideoCrafterAdapter.from_checkout`. The global random state is left as found, though the
    host initialises its weights from it.
    """
    path = config if config.is_file() else root / config
    for what, file in (("config", path), ("checkpoint", checkpoint)):
        if not file.is_file():
            raise FileNotFoundError(f"no {what} at {file}")
    model = _instantiate(root, _settings(path))
    _as_open_clip_was(model)
    load_into(model, checkpoint)
    return model.eval().requires_grad_(False)


def build_network(root: Path, config: Path) -> torch.nn.Module:
    """The denoising network of the host's `config` alone, with random weights, on the CPU; for measuring.

    Arguments and errors as `load_model`.
    """
    path = config if config.is_file() else root / config
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}")
    return _instantiate(root, _settings(path)["params"]["unet_config"]).eval().requires_grad_(False)


def _instantiate(root: Path, settings: dict[str, Any]) -> torch.nn.Module:
    try:
        from omegaconf import OmegaConf

        with isolated(root), torch.random.fork_rng(devices=[]):
            build = importlib.import_module("utils.utils").instantiate_from_config
            model: torch.nn.Module = build(OmegaConf.create(settings))
    except ImportError as error:
        raise ImportError(f"VideoCrafter cannot be imported: {error}. It needs: pip install {_PACKAGES}") from error
    return model


def _settings(path: Path) -> dict[str, Any]:
    """The config's `model` section, after a look at the classes it names."""
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        model: dict[str, Any] = read["model"]
        unet = model["params"]["unet_config"]["params"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no VideoCrafter config (no model with a unet_config): {error}") from error
    foreign = [name for name in _targets(model) if not name.startswith(("lvdm.", "torch.nn."))]
    if foreign:
        raise ValueError(f"{path.name} names classes outside lvdm and torch.nn, which are not run: {foreign}")
    # Recomputing activations saves memory in training only.
    unet["use_checkpoint"] = False
    return model


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "target" in node:
            yield str(node["target"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _targets(child)


def _as_open_clip_was(model: torch.nn.Module) -> None:
    """The host is written for open_clip 2.22: blocks that take (sequence, batch, width), which since 2.26 expect the
    batch first, and a vision tower with `input_patchnorm` (off), which since 2.24 has none.
    """
    text = getattr(getattr(model, "cond_stage_model", None), "model", None)
    visual = getattr(getattr(getattr(model, "embedder", None), "model", None), "visual", None)
    transformers = [getattr(text, "transformer", None), getattr(visual, "transformer", None)]
    v2 = type(getattr(model, "embedder", None)).__name__.endswith("V2")
    if visual is not None and v2 and not hasattr(visual, "input_patchnorm"):
        visual.input_patchnorm = False
    for transformer in transformers[: 2 if v2 else 1]:
        for block in getattr(transformer, "resblocks", ()):
            if isinstance(getattr(block, "attn", None), torch.nn.MultiheadAttention):
                block.attn.batch_first = False
