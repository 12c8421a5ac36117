"""ModelScope's base stages as sources of clips, over small models that draw from the global generators."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nc_refiner.adapters.modelscope.sources import ImageToVideo, TextToVideo


class _Text:
    """Four frames of the asked size from text and noise, as the host's pipeline hands them out: `(1, 3, F, H, W)`."""

    def __init__(self) -> None:
        encoder = SimpleNamespace(device="cuda")
        self.model = SimpleNamespace(sd_model=nn.Identity(), clip_encoder=encoder, device=torch.device("cpu"))

    def preprocess(self, asked):
        return asked

    def forward(self, asked):
        level = len(asked["text"]) / 100
        return {"video": level + 0.5 * torch.randn(1, 3, 4, asked["height"], asked["width"])}


class _Image:
    def __init__(self) -> None:
        self.model = SimpleNamespace(generator=nn.Identity())

    def preprocess(self, path):
        return {"path": path}

    def forward(self, asked):
        return {"video": torch.randn(1, 3, 5, 16, 24)}


def test_text_decides_with_the_seed_and_nothing_global_moves(global_rng_untouched):
    source = TextToVideo(pipe=_Text())
    clip = source("a camel", 4)
    assert clip.frames.shape == (4, 3, 256, 256) and clip.fps == 8.0
    assert (clip.prompt, clip.seed, clip.history) == ("a camel", 4, ("text-to-video-synthesis, seed 4",))
    small = source("a camel", 4, height=64, width=128)
    assert small.frames.shape == (4, 3, 64, 128)
    assert torch.equal(source("a camel", 4, height=64, width=128).frames, small.frames)
    assert not torch.equal(source("a camel", 5, height=64, width=128).frames, small.frames)
    assert source.pipe.model.clip_encoder.device == torch.device("cpu")


@pytest.mark.parametrize("size", [(100, 64), (64, 72), (32, 64), (0, 64)])
def test_sizes_the_network_cannot_take(size):
    with pytest.raises(ValueError, match="multiples of 64"):
        TextToVideo(pipe=_Text())("a camel", 1, height=size[0], width=size[1])


def test_pictures_must_be_there_and_seeds_decide(tmp_path, global_rng_untouched):
    source = ImageToVideo(pipe=_Image())
    with pytest.raises(FileNotFoundError, match="no picture at"):
        source(None, 1, image=tmp_path / "absent.png")
    picture = tmp_path / "in.png"
    picture.write_bytes(b"the stand-in does not read it")
    clip = source("a camel", 1, image=picture)
    assert clip.frames.shape == (5, 3, 16, 24) and clip.prompt == "a camel" and clip.seed == 1
    assert torch.equal(clip.frames, source(None, 1, image=picture).frames)
    assert not torch.equal(clip.frames, source(None, 2, image=picture).frames)


@pytest.mark.parametrize("kind", [TextToVideo, ImageToVideo])
def test_exactly_one_of_model_and_pipe_and_a_seed_in_range(kind, tmp_path):
    with pytest.raises(TypeError, match="either `model`"):
        kind()
    with pytest.raises(TypeError, match="either `model`"):
        kind("damo/model", pipe=_Text())
    picture = tmp_path / "in.png"
    picture.touch()
    call = {"image": picture} if kind is ImageToVideo else {}
    with pytest.raises(ValueError, match="seed is -1"):
        kind(pipe=_Image() if kind is ImageToVideo else _Text())("a camel", -1, **call)
