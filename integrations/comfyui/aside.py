"""What stands aside while calibrating: caches that count evaluations as steps, and the guider's own guidance scale."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .host import Host

__all__ = ["changes_guidance", "guidance", "options_of", "without_caches"]

_CACHED = ("predict_noise", "calc_cond_batch", "apply_model", "diffusion_model")
"""Places a cache hooks into to skip an evaluation."""

log = logging.getLogger("nc_refiner.comfyui")


def without_caches(model_options: Mapping[str, Any]) -> dict[str, Any]:
    """`model_options` without the wrappers of EasyCache, LazyCache and their like; nothing in them is written to.

    They would take calibration's evaluations, all at one noise level, for steps, and skip those that come after.
    """
    options = dict(model_options.get("transformer_options", {}))
    wrappers = dict(options.get("wrappers", {}))
    for place in _CACHED:
        if place in wrappers:
            wrappers[place] = {key: some for key, some in wrappers[place].items() if "cache" not in str(key).lower()}
    return {**model_options, "transformer_options": {**options, "wrappers": wrappers}}


@contextmanager
def options_of(guider: Any, options: Mapping[str, Any]) -> Iterator[None]:
    """The guider predicts with `options`; afterwards it has its own again, whatever happened."""
    before = guider.model_options
    guider.model_options = options
    try:
        yield
    finally:
        guider.model_options = before


def changes_guidance(guider: Any, scale: float | None, host: Host) -> bool:
    """Whether `guidance` will make the guider guide otherwise than it does in the sampler."""
    return scale is not None and _takes(guider, scale, host) and scale != guider.cfg


def _takes(guider: Any, scale: float, host: Host) -> bool:
    own = getattr(type(guider), "predict_noise", None) is host.plain_guider.predict_noise  # type: ignore[attr-defined]
    return own and (scale == 1 or bool(getattr(guider, "conds", {}).get("negative")))


@contextmanager
def guidance(guider: Any, scale: float | None, host: Host) -> Iterator[None]:
    """The guider guides with `scale` (None: as it does anyway); afterwards with its own again, whatever happened."""
    if scale is None:
        yield
        return
    if not _takes(guider, scale, host):
        log.info("Noise Calibration: this guider decides its own guidance; `guidance` is passed over")
        yield
        return
    before = guider.cfg
    guider.cfg = scale
    try:
        yield
    finally:
        guider.cfg = before
