"""Which frames are compared, at what size, and what the result says of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nc_refiner.clip import VideoClip
from nc_refiner.evaluation.alignment import Alignment, align, aligned_blocks
from nc_refiner.evaluation.measure import measure
from nc_refiner.video import FrameReader, read_clip, write_clip

from ..video.conftest import moving
from .conftest import MakeClip, drifting


def numbered(count: int) -> torch.Tensor:
    """Flat frames, each a little brighter than the one before."""
    return torch.linspace(0.1, 0.9, count)[:, None, None, None].expand(-1, 3, 32, 32)


def compared(reference, output, mode: str = "auto", block: int = 3):
    """The alignment, and which reference frame each output frame met (by brightness)."""
    with FrameReader(reference, exact_colour=True) as a, FrameReader(output, exact_colour=True) as b:
        alignment = align(a, b, mode)
        blocks = list(aligned_blocks(a, b, alignment, block))
    count = alignment.reference_frames
    levels = torch.cat([before for before, _ in blocks]).mean(dim=(1, 2, 3))
    assert all(len(before) == len(after) <= block for before, after in blocks)
    return alignment, ((levels - 0.1) / 0.8 * (count - 1)).round().int().tolist()


def test_equal_rates_go_by_index(make_clip: MakeClip):
    a, b = make_clip("a.mp4", numbered(7)), make_clip("b.mp4", numbered(5))
    alignment, met = compared(a, b)
    assert (alignment.mode, alignment.frames, met) == ("index", 5, [0, 1, 2, 3, 4])
    assert any("5 frames compared of 7 in the reference and 5 in the output" in note for note in alignment.notes())
    alignment, met = compared(b, a)
    assert (alignment.frames, met) == (5, [0, 1, 2, 3, 4])


def test_equally_many_frames_go_by_index_whatever_the_rate(make_clip: MakeClip):
    alignment, met = compared(make_clip("a.mp4", numbered(6), fps=10), make_clip("b.mp4", numbered(6), fps=8))
    assert (alignment.mode, met) == ("index", [0, 1, 2, 3, 4, 5])
    assert any("although the rates differ (10 and 8 fps)" in note for note in alignment.notes())


@pytest.mark.parametrize(
    ("reference", "output", "expected"),
    [
        ((4, 8), (12, 24), [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
        ((12, 24), (4, 8), [0, 3, 6, 9]),
        ((5, 10), (6, 16), [0, 1, 1, 2, 3, 3]),
    ],
)
def test_other_rates_go_by_time(make_clip: MakeClip, reference, output, expected):
    a = make_clip("a.mp4", numbered(reference[0]), fps=reference[1])
    b = make_clip("b.mp4", numbered(output[0]), fps=output[1])
    alignment, met = compared(a, b)
    assert (alignment.mode, met) == ("time", expected)
    assert any("by time" in note for note in alignment.notes())
    assert compared(a, b, mode="index")[1] == list(range(min(reference[0], output[0])))


def test_the_reference_is_resized_antialiased_bicubic(make_clip: MakeClip):
    a, b = make_clip("a.mp4", moving(3, 64, 96)), make_clip("b.mp4", moving(3, 32, 64))
    with FrameReader(a) as reference, FrameReader(b) as output:
        alignment = align(reference, output)
        before, after = next(iter(aligned_blocks(reference, output, alignment, 8)))
    expected = F.interpolate(read_clip(a).frames, size=(32, 64), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(before, expected) and after.shape == before.shape
    found = alignment.as_dict()
    assert found["resized"] and found["resampling"] == "antialiased bicubic"
    assert found["reference_size"] == [96, 64] and found["output_size"] == [64, 32]
    assert "resized from 96×64 to 64×32" in found["notes"][0] and "proportions" in found["notes"][0]


def test_clips_that_agree_need_no_note(make_clip: MakeClip):
    alignment, _ = compared(make_clip("a.mp4", numbered(3)), make_clip("b.mp4", numbered(3)))
    assert alignment.notes() == [] and alignment.as_dict()["resampling"] is None


def test_what_cannot_be_aligned_is_refused(make_clip: MakeClip, tmp_path):
    video = make_clip("a.mp4", numbered(3))
    write_clip(VideoClip(numbered(1)), tmp_path / "b.png")
    with FrameReader(video) as a, FrameReader(tmp_path / "b.png") as b:
        with pytest.raises(ValueError, match=r"b\.png is a picture and .*a\.mp4 a video"):
            align(a, b)
        with pytest.raises(ValueError, match="auto, index, time"):
            align(a, a, "sound")
        long = Alignment("index", 9, 9, 9, 8.0, 8.0, (32, 32), (32, 32))
        with pytest.raises(ValueError, match="ends before its header says"):
            list(aligned_blocks(a, a, long, 4))


@pytest.mark.parametrize("offset", [3, -2, 8])
def test_a_shifted_output_is_found_and_named(make_clip: MakeClip, offset: int):
    clip = drifting(24)
    # What the reference shows at i + offset, darker.
    reference, output = (clip, clip[offset:]) if offset > 0 else (clip[-offset:], clip)
    a, b = make_clip("a.mp4", reference), make_clip("b.mp4", 0.8 * output + 0.05)
    plain, shifted = measure(a, b, ["mse", "ssim"]), measure(a, b, ["mse", "ssim"], align_time=True)
    assert plain.alignment.offset == 0 and f"look shifted by {abs(offset)} frames" in plain.notes()[0]
    assert "--align-time" in plain.as_dict()["alignment"]["notes"][0]
    found = shifted.alignment
    assert (found.offset, found.frames, found.first) == (offset, min(len(reference), len(output)), max(0, -offset))
    side = "later" if offset > 0 else "earlier"
    said = [note for note in shifted.notes() if f"shows {abs(offset)} frames {side}" in note]
    assert len(said) == 1 and "times as far apart" in said[0] and not shifted.misaligned
    assert shifted.metrics["ssim"] > plain.metrics["ssim"] and len(shifted.per_frame["mse"]) == found.frames


def test_what_is_aligned_or_still_stays_where_it_is(make_clip: MakeClip):
    clip = drifting(12)
    still = clip[:1].expand(12, -1, -1, -1)
    for name, before in (("moving", clip), ("still", still), ("short", clip[:1])):
        a, b = make_clip(f"{name}.mp4", before), make_clip(f"{name}_out.mp4", 0.9 * before)
        assert measure(a, b, ["mse"]).misaligned == ""
        found = measure(a, b, ["mse"], align_time=True)
        assert found.alignment.offset == 0 and found.alignment.frames == len(before)
        assert any("is better than none" in note for note in found.notes())
