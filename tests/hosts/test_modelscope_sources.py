"""The real text-to-video and image-to-video pipelines of ModelScope on tiny weights, as sources of clips."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nc_refiner.adapters.modelscope.sources import ImageToVideo, TextToVideo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text(models: Any) -> TextToVideo:
    return TextToVideo(str(models.text), device="cpu")


@pytest.fixture(scope="module")
def image(models: Any) -> ImageToVideo:
    return ImageToVideo(str(models.image), device="cpu")


def test_text_to_video(text, global_rng_untouched):
    clip = text("a dog", 4, height=64, width=128)
    assert clip.frames.shape == (4, 3, 64, 128) and (clip.prompt, clip.seed, clip.fps) == ("a dog", 4, 8.0)
    assert float(clip.frames.std()) > 0.01
    assert torch.equal(clip.frames, text("a dog", 4, height=64, width=128).frames)
    assert not torch.equal(clip.frames, text("a cat", 4, height=64, width=128).frames)
    assert not torch.equal(clip.frames, text("a dog", 5, height=64, width=128).frames)


def test_sizes_are_the_networks(text):
    """What is refused is what the network cannot do; the smallest it can is not refused."""
    assert text("a dog", 1, height=64, width=64).frames.shape[2:] == (64, 64)
    with pytest.raises(ValueError, match="multiples of 64"):
        text("a dog", 1, height=72, width=64)
    with torch.random.fork_rng(), pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        text.pipe.forward(text.pipe.preprocess({"text": "a dog", "height": 72, "width": 64}))


def test_image_to_video(image, pictures, global_rng_untouched):
    picture, other_picture = pictures
    clip = image("a dog", 4, image=picture)
    assert clip.frames.shape == (4, 3, 64, 128) and (clip.prompt, clip.seed, clip.fps) == ("a dog", 4, 8.0)
    assert float(clip.frames.std()) > 0.01
    assert torch.equal(clip.frames, image(None, 4, image=picture).frames)
    assert not torch.equal(clip.frames, image(None, 4, image=other_picture).frames)
    assert not torch.equal(clip.frames, image(None, 5, image=picture).frames)


def test_image_to_video_is_the_hosts(image, pictures):
    """The pipeline itself, from the same state of the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        video = image.pipe.forward(image.pipe.preprocess(str(pictures[0])))["video"]
    wanted = (video[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1)
    assert torch.equal(image(None, 4, image=pictures[0]).frames, wanted)
