"""The same run in words that a person can keep: a few lines of Python, a cascade file."""

from __future__ import annotations

from typing import Any

import yaml

from ..config.refiner import SDEditDescription, calibration_fields
from .job import Wanted

__all__ = ["as_python", "as_yaml"]


def _given(wanted: Wanted) -> dict[str, Any]:
    """What was chosen and is no default, backbone aside."""
    description = wanted.description
    fields = type(description).model_fields
    given = {name: getattr(description, name) for name in fields if name != "backbone"}
    return {name: value for name, value in given.items() if value is not None and value != fields[name].default}


def as_python(wanted: Wanted) -> str:
    """Lines that repeat the run; they need nothing but the package and the clip."""
    description = wanted.description
    given = {"iterations": description.iterations, **_given(wanted)}
    calibration = calibration_fields(given)
    given = {name: value for name, value in given.items() if name in SDEditDescription.model_fields}
    backbone = description.backbone
    options = [repr(backbone.adapter), *([repr(backbone.options)] if backbone.options else [])]
    options += [f"{name}={value!r}" for name, value in calibration.items()]
    reading = [f"max_frames={wanted.frames}", *([f"height={wanted.height}"] if wanted.height else [])]
    call = ["clip", f"seed={wanted.seed}", *(f"{name}={value!r}" for name, value in given.items())]
    lines = ["import nc_refiner", "from nc_refiner.video import read_clip, write_clip"]
    source = repr("in.mp4")
    if wanted.source is None:
        lines.insert(1, "from nc_refiner.assets import demo_clip")
        source = "demo_clip()[0]"
    lines += [
        "",
        f"clip = read_clip({', '.join([source, *reading])})",
        f"refiner = nc_refiner.CalibratedRefiner.from_name({', '.join(options)})",
        f"result = refiner({', '.join(call)})",
        'write_clip(result.clip, "refined.mp4")',
    ]
    return "\n".join(lines) + "\n"


def as_yaml(wanted: Wanted) -> str:
    """A cascade file that repeats the run on a clip of the same name."""
    base: dict[str, Any] = {"type": "file", "path": "in.mp4", "max_frames": wanted.frames}
    if wanted.height:
        base["height"] = wanted.height
    backbone = wanted.description.backbone
    refiner: dict[str, Any] = {"type": "nc"}
    if backbone.options or backbone.adapter != "embedded":
        refiner["backbone"] = {"adapter": backbone.adapter, **backbone.options}
    refiner |= {"iterations": wanted.description.iterations, **_given(wanted)}
    cascade = {"version": 1, "seed": wanted.seed, "output": "out/refined", "base": base, "refiner": refiner}
    comment = "# The bundled clip: save it under this name first.\n" if wanted.source is None else ""
    return comment + yaml.safe_dump(cascade, sort_keys=False)
