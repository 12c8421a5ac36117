"""Figure 4: restorers and upscalers beside calibration, where their packages and weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nc_refiner.baselines import create_restorer
from nc_refiner.baselines.restorer import Restorer
from nc_refiner.experiment.offline.restoring import Restorers
from nc_refiner.naming import one_line
from nc_refiner.sweeps import SweepPlan

from .plans import DEFAULT_STRENGTH, PLANS

__all__ = ["RESTORERS", "TOLD", "restorers_here", "restoring_plan"]

RESTORERS = ("basicvsr", "x4_upscaler")
TOLD = {
    "basicvsr": "BasicVSR (Vimeo-90K, blurred)",
    "x4_upscaler": "Stable Diffusion's ×4 upscaler",
}


def restorers_here(upscaler: Path | None = None) -> tuple[dict[str, Restorer], dict[str, str]]:
    """Those that can run, and why the others cannot.

    Args:
        upscaler: folder with the weights of the ×4 upscaler; without it they are looked for in the hub's cache.
    """
    options: dict[str, dict[str, Any]] = {
        # The clips are blurred too: the weights that know blur do better on them than those for films.
        "basicvsr": {"weights": "vimeo_bd"},
        "x4_upscaler": {"local_files_only": True, **({} if upscaler is None else {"model": str(upscaler)})},
    }
    found: dict[str, Restorer] = {}
    skipped: dict[str, str] = {}
    for name in RESTORERS:
        try:
            found[name] = create_restorer(name, **options.get(name, {}))
        except (ImportError, OSError) as error:
            skipped[name] = one_line(error, 500)
    return found, skipped


def restoring_plan(found: dict[str, Restorer]) -> tuple[SweepPlan, Restorers]:
    """SDEdit and N = 3 as in the plan `default`, whose finished cells serve here too, and the restorers in `found`."""
    plan = SweepPlan(
        iterations=(0, 3),
        strengths=(DEFAULT_STRENGTH,),
        num_inference_steps=PLANS["default"].num_inference_steps,
        reuse_prediction=False,
        baselines=("input",),
        restorers=tuple({"name": name} for name in found),
    )
    return plan, Restorers(found)
