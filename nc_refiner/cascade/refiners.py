"""A refiner from the `refiner:` section of a cascade file, without the cascade around it."""

from __future__ import annotations

import os

from ..adapters.registry import create
from ..config.document import ConfigError, read_document
from ..refiner import CalibratedRefiner
from .config import stage_options
from .stages.refine import RefineOptions

__all__ = ["build_refiner", "refiner_from"]


def build_refiner(options: RefineOptions) -> CalibratedRefiner:
    """Build the adapter that `options` name, and the refiner over it.

    Raises:
        ValueError: options that do not fit the adapter. Anything its host raises while loading.
    """
    backbone = options.backbone
    try:
        adapter = create(backbone.adapter, **backbone.options)
    except TypeError as error:
        raise ValueError(f"backbone {backbone.adapter!r} cannot be built from these options: {error}") from error
    return CalibratedRefiner(adapter, options.calibration(), options.settings())


def refiner_from(path: str | os.PathLike[str]) -> CalibratedRefiner:
    """`CalibratedRefiner.from_config`; the rest of the file may be missing.

    Raises:
        ConfigError: the file or its `refiner` cannot be used.
    """
    document = read_document(path)
    options = stage_options(document, "refiner", document.data.get("refiner"))
    if not isinstance(options, RefineOptions):
        raise ConfigError(f"{document.where(('refiner',))}: no refiner to build; write refiner: nc or refiner: sdedit")
    return build_refiner(options)
