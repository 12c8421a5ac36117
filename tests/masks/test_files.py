"""Masks from files, and where they lie in clips that are padded, windowed or compressed in time."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image

from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.mask import Place, as_mask
from nc_refiner.masks import reopened
from nc_refiner.refining.repeat import repeat
from nc_refiner.video import write_clip


def picture(path, values):
    Image.fromarray((numpy.asarray(values) * 255).astype("uint8")).save(path)
    return path


@pytest.fixture
def left(tmp_path):
    return picture(tmp_path / "left.png", numpy.repeat([[1.0] * 16 + [0.0] * 16], 20, axis=0))


def test_a_picture_is_a_mask_of_every_frame(left):
    mask = as_mask(left)
    found = mask.weights(Place((3, 4, 4), 3))
    assert found.shape == (1, 1, 3, 4, 4) and mask.length == 1
    assert bool((found[..., :2] == 1).all()) and not bool(found[..., 2:].any())
    assert mask == as_mask(str(left)) == pickle.loads(pickle.dumps(mask)) == reopened(mask.describe())


def test_a_clip_is_black_and_white_through_its_compression(tmp_path):
    frames = torch.zeros(5, 3, 32, 48)
    frames[2:, :, :, :24] = 1
    write_clip(VideoClip(frames, 12.0), tmp_path / "mask.mp4")
    mask = as_mask(tmp_path / "mask.mp4")
    found = mask.weights(Place((2, 4, 6), 2, first=2))
    assert mask.length == 5 and bool((found[..., :2] == 1).all()) and not bool(found[..., 4:].any())
    assert not bool(mask.weights(Place((2, 4, 6), 2)).any())
    with pytest.raises(ValueError, match="has 5 frames for 6 of the clip"):
        mask.weights(Place((6, 4, 6), 6))


def test_files_that_are_no_masks_are_told_in_one_line(tmp_path, left):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    for name, words in (("broken.png", "picture"), ("absent.mp4", "no such file")):
        with pytest.raises(ValueError, match=words) as told:
            NoiseCalibration(mask=tmp_path / name)
        assert "\n" not in str(told.value)
    before = as_mask(left).describe()
    picture(left, numpy.ones((20, 32)))
    with pytest.raises(ValueError, match="has changed since"):
        reopened(before)
    with pytest.raises(ValueError, match="given in Python"):
        reopened(as_mask(torch.ones(2, 2)).describe())


def test_the_receipt_names_it_and_repeats_it(tmp_path, left):
    refiner = CalibratedRefiner.from_name("embedded", {"device": "cpu"}, iterations=1, mask=left, hold=0.25)
    clip = VideoClip(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    receipt = refiner(clip, strength=0.2, num_inference_steps=10, seed=4).receipt
    path = tmp_path / "out.receipt.json"
    path.write_text(json.dumps(receipt), encoding="utf-8")
    # What the refiner left open, the receipt says: the last prediction was used again.
    assert repeat(path).calibration == replace(refiner.calibration, reuse_prediction=True)
    left.unlink()
    with pytest.raises(ValueError, match="cannot be repeated"):
        repeat(path)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_mask_goes_along_with_the_windows(stream):
    """Frames of a long clip that are free are SDEdit's, and a function is shown each window's own frames."""
    clip = VideoClip(torch.rand(7, 3, 32, 40, generator=torch.Generator().manual_seed(2)))
    settings = {"strength": 0.2, "num_inference_steps": 10, "seed": 3, "window": 3, "overlap": 0}
    settings["max_latents_gib"] = 0.0 if stream else 0.5
    each = torch.zeros(7, 4, 4)
    each[3:6] = 1
    refiner = CalibratedRefiner.from_name("embedded", {"device": "cpu"}, iterations=1, mask=each)
    masked = refiner(clip, **settings).clip.frames
    plain = refiner.with_calibration(iterations=0)(clip, **settings).clip.frames
    moved = (masked - plain).abs().mean(dim=(1, 2, 3))
    assert float(moved[3:6].min()) > 5 * float(moved[0])
    if stream:  # where a window is wholly free, nothing of it is touched
        assert not bool(moved[:3].any())

    def same(frames: torch.Tensor) -> torch.Tensor:
        indices = [int((clip.frames - frame).abs().sum(dim=(1, 2, 3)).argmin()) for frame in frames]
        return each[indices]

    assert torch.equal(refiner.with_calibration(mask=same)(clip, **settings).clip.frames, masked)
    longer = refiner.with_calibration(mask=torch.cat([each, each]))(clip, **settings)
    assert torch.equal(longer.clip.frames, masked)
    assert any("of which the first 7 are used" in note for note in longer.receipt["degradations"])
    with pytest.raises(ValueError, match="has 5 frames for 7"):
        refiner.with_calibration(mask=each[:5])(clip, **settings)
