"""The tool behind the tuning that ships: where its pieces come from, and a tuning that `keep` can read."""

from __future__ import annotations

from pathlib import Path

import torch
from tune_embedded import main, pieces_of

from nc_refiner.refining.keeping.tuning import HEIGHTS, read_tuning

from ..video.conftest import make_video, moving


def test_pieces_are_spread_over_the_video(tmp_path: Path) -> None:
    frames = moving(12, 64, 96)
    make_video(tmp_path / "a.mp4", frames)
    pieces = list(pieces_of(tmp_path / "a.mp4", 3))
    assert [tuple(piece.shape) for piece in pieces] == [(2, 3, 32, 48)] * 3
    small = torch.nn.functional.avg_pool2d(frames, 2)
    for piece, start in zip(pieces, (2, 6, 10), strict=True):
        near = [float((piece - small[first : first + 2]).square().mean()) for first in range(11)]
        assert near.index(min(near)) == start


def test_what_it_writes_is_a_tuning(small_model: None, tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", moving(4, 64, 96))
    out = tmp_path / "tuning.json"
    assert main(["--clips", str(tmp_path / "a.mp4"), "--pieces", "2", "--output", str(out)]) == 0
    found = read_tuning(out)
    assert found.adapter == "embedded" and found.clips == 2
    assert [line.height for line in found.lines["psnr"]] == list(HEIGHTS)
