"""ComfyUI custom nodes: Noise Calibration in front of any sampler, and a report of what it did.

This folder is what stands in `ComfyUI/custom_nodes/`. Importing it needs neither ComfyUI nor nc_refiner: the nodes are
loaded when ComfyUI asks for them.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "./web"
INSTALL = "pip install nc_refiner"


async def comfy_entrypoint() -> Any:
    """ComfyUI's entry point: the extension with both nodes; with none, and one line in the log, without nc_refiner."""
    from comfy_api.latest import ComfyExtension

    missing = importlib.util.find_spec("nc_refiner") is None
    if missing:
        logging.error("Noise Calibration: nc_refiner is not installed; run `%s` in ComfyUI's Python", INSTALL)

    class NoiseCalibrationExtension(ComfyExtension):
        async def get_node_list(self) -> list[Any]:
            if missing:
                return []
            from .nodes import CalibrationReport, NoiseCalibrationNode

            return [NoiseCalibrationNode, CalibrationReport]

    return NoiseCalibrationExtension()
