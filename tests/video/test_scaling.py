"""The flags are those of the PyAV that names them; earlier ones take the same numbers."""

from __future__ import annotations

import pytest
from av.video.reformatter import Interpolation

from nc_refiner.video.scaling import EXACT_READING, EXACT_WRITING


def test_the_values_are_swscales_own() -> None:
    if not hasattr(Interpolation, "ACCURATE_RND"):
        pytest.skip("this PyAV has no names for them")
    common = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
    assert common | Interpolation.FULL_CHR_H_INT == EXACT_READING
    assert common | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT == EXACT_WRITING
