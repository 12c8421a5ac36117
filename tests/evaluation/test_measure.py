"""From files to numbers: streaming equals the whole, the drift map adds up, what is missing is told."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from nc_refiner.evaluation import delta_e, flicker, mse, mse_low, psnr, spatial_frequency, ssim, warping_error
from nc_refiner.evaluation import measure as room
from nc_refiner.evaluation.catalogue import DEFAULT, METRICS, chosen
from nc_refiner.evaluation.drift import DriftMap
from nc_refiner.evaluation.measure import measure
from nc_refiner.evaluation.meters import Models, PairMeter
from nc_refiner.video import FrameReader

from .conftest import MakeClip, noisy, textured

pytest.importorskip("skimage", reason="the evaluation extra is not installed")
pytest.importorskip("cv2", reason="the evaluation extra is not installed")


def frames_of(path) -> torch.Tensor:
    with FrameReader(path, exact_colour=True) as reader:
        return torch.stack(list(reader))


def test_a_stream_in_blocks_equals_the_whole_clip(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch):
    a, b = make_clip("a.mp4", textured(7)), make_clip("b.mp4", noisy(textured(7), 0.2))
    monkeypatch.setattr(room, "BLOCK_FRAMES", 3)
    sizes = []
    found = measure(a, b, watcher=lambda alignment, before, after: sizes.append(len(after)))
    assert sizes == [3, 3, 1]
    x, y = frames_of(a), frames_of(b)
    whole = {
        "mse": mse(x, y).mean(),
        "mse_low": mse_low(x, y).mean(),
        "ssim": ssim(x, y).mean(),
        "spatial_frequency": spatial_frequency(y).mean(),
        "delta_e": delta_e(x, y).mean(),
        "flicker": flicker(y).mean(),
        "warping_error": warping_error(x, y).mean(),
        "psnr": psnr(x.reshape(1, 3, -1, 96), y.reshape(1, 3, -1, 96)).mean(),
    }
    for name, value in whole.items():
        assert found.metrics[name] == pytest.approx(float(value), rel=1e-6), name
    assert found.reference_metrics == pytest.approx(
        {
            "spatial_frequency": float(spatial_frequency(x).mean()),
            "flicker": float(flicker(x).mean()),
            "warping_error": float(warping_error(x, x).mean()),
        }
    )
    assert found.per_frame["mse"] == pytest.approx(mse(x, y).tolist())
    assert found.per_frame["flicker"][0] is None and len(found.per_frame["flicker"]) == 7
    assert not found.not_measured


def test_equal_clips(make_clip: MakeClip):
    a = make_clip("a.mp4", textured(3))
    found = measure(a, a)
    values = found.metrics
    assert [values[name] for name in ("mse", "mse_low", "delta_e", "saturation_shift", "clipped_shift")] == [0] * 5
    assert values["ssim"] == pytest.approx(1) and values["psnr"] is None and "infinite" in found.not_measured["psnr"]
    for name, own in found.reference_metrics.items():
        assert values[name] == own
    assert json.loads(json.dumps(found.as_dict(per_frame=True), allow_nan=False))["alignment"]["frames"] == 3


def test_one_frame_has_no_motion(make_clip: MakeClip):
    found = measure(make_clip("a.mp4", textured(3)), make_clip("b.mp4", textured(3)), max_frames=1)
    assert found.metrics["flicker"] is None and "neighbouring frames" in found.not_measured["warping_error"]
    assert found.metrics["mse"] is not None and found.alignment.frames == 1


def test_the_number_of_frames_read_does_not_change_the_rule(make_clip: MakeClip):
    a, b = make_clip("a.mp4", textured(6), fps=10), make_clip("b.mp4", textured(6), fps=8)
    assert measure(a, b, ["mse"], max_frames=2).alignment.mode == "index"


@pytest.mark.parametrize(("module", "metric"), [("skimage.color", "delta_e"), ("cv2", "warping_error")])
def test_a_missing_package_is_told_and_the_rest_measured(make_clip: MakeClip, monkeypatch, module, metric):
    a = make_clip("a.mp4", textured(3))
    b = make_clip("b.mp4", noisy(textured(3), 0.1))
    monkeypatch.setitem(sys.modules, module, None)
    found = measure(a, b)
    assert found.metrics[metric] is None
    assert found.not_measured.keys() == {metric}
    assert "is not installed; pip install 'nc_refiner[evaluation]'" in found.not_measured[metric]
    assert all(found.metrics[name] is not None for name in DEFAULT if name != metric)


def test_the_drift_map_adds_up_to_mse_low():
    a = textured(5, 48, 96)
    b = noisy(a, 0.3)
    drift = DriftMap(5, 48, 96)
    drift.add(a[:2], b[:2])
    drift.add(a[2:], b[2:])
    assert drift.values().shape == (5, 12, 24)
    assert drift.values().square().mean(dim=(1, 2)).tolist() == pytest.approx(mse_low(a, b).tolist())


def test_the_drift_map_finds_where_and_when():
    a = torch.full((6, 3, 60, 100), 0.5)
    b = a.clone()
    b[4, :, 30:40, 70:80] += 0.3
    drift = DriftMap(6, 60, 100)
    drift.add(a, b)
    found = drift.values()
    bin_, row, column = (int(i[0]) for i in torch.where(found == found.max()))
    side = -(-100 // 24)
    assert bin_ == 4 and 30 <= (row + 0.5) * side <= 40 and 70 <= (column + 0.5) * side <= 80
    assert found[:4].max() == 0 and found[5].max() == 0


def test_a_long_clip_shares_bins():
    drift = DriftMap(600, 16, 16)
    grey = torch.full((1, 3, 16, 16), 0.5)
    for i in range(600):
        drift.add(grey, grey + (0.2 if i >= 300 else 0.0))
    found = drift.values()
    assert len(found) == 240 and found[:120].max() == 0 and found[120:].min() == pytest.approx(0.2)


def test_metrics_by_name():
    assert chosen(["SSIM", "mse-low"]) == ("mse_low", "ssim")
    assert chosen(["all"]) == tuple(METRICS)
    with pytest.raises(ValueError, match="did you mean 'ssim'"):
        chosen(["sim"])
    with pytest.raises(ValueError, match="no metric"):
        chosen([])


def test_bad_blocks_are_refused():
    meter = PairMeter(("mse", "flicker"), 2, 32, 32, Models())
    grey = torch.full((1, 3, 32, 32), 0.5)
    for other, words in ((grey / 0, "NaN"), (grey[..., :16], "align"), (grey[:0], "at least one frame")):
        with pytest.raises(ValueError, match=words):
            meter.add(grey, other)
