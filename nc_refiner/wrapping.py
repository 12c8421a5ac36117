"""`wrap`, `unwrap` and `calibrated` for pipelines of any host. A host is recognised without being imported."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import fields, replace
from importlib import import_module
from typing import Any

from .adapters.registry import Host, host_of, register_host
from .calibration import NoiseCalibration
from .naming import did_you_mean

__all__ = ["Host", "calibrated", "register_host", "unwrap", "wrap"]


def _settings(
    host: Host, pipe: Any, config: NoiseCalibration | None, options: dict[str, Any]
) -> tuple[NoiseCalibration, dict[str, Any]]:
    """What to wrap `pipe` with: what a twin has already, changed by what is given."""
    if config is not None and not isinstance(config, NoiseCalibration):
        raise TypeError(
            f"the second argument is {config!r}; it takes a NoiseCalibration. Give its fields by name instead: "
            "wrap(pipe, iterations=3, cutoff=1.0)"
        )
    ours = {field.name for field in fields(NoiseCalibration)}
    allowed = sorted(ours | set(host.options))
    for name in options:
        if name in ("keep", "tuning"):
            raise TypeError(
                f"{name} runs a clip several times, which a pipeline's call cannot; use "
                "CalibratedRefiner.from_pipe(pipe)(clip, keep=…)"
            )
        if name not in allowed:
            hint = did_you_mean(name, allowed, before="; ")
            raise TypeError(f"unknown option {name!r}; allowed: {', '.join(allowed)}{hint}")
    chosen = {name: value for name, value in options.items() if name in ours}
    if config is not None and chosen:
        raise TypeError(f"give either a NoiseCalibration or {sorted(chosen)}, not both")
    settings_of = getattr(import_module(host.module), "settings_of", lambda pipe: None)
    carried, kept = settings_of(pipe) or (NoiseCalibration(), {})
    rest = {name: value for name, value in options.items() if name not in ours}
    return replace(carried, **chosen) if config is None else config, {**kept, **rest}


def wrap(pipe: Any, config: NoiseCalibration | None = None, **options: Any) -> Any:
    """A calibrated twin of `pipe`: the same class to its user, the same call, arguments and output.

    `pipe` stays as it is and shares its models with the twin; `unwrap` gives it back. (A VideoCrafter model, which
    owns its sampling, is changed itself and returned; `unwrap` undoes it.) Wrapping a twin again changes the settings
    that are named and keeps the others, and whatever was changed on the twin: its scheduler, its models. After a call
    `twin.calibration_trace` holds the content loss per iteration.

    Args:
        pipe: a pipeline of a known host (diffusers: image-to-image or video-to-video; ModelScope: video-to-video).
        config: how to calibrate; or give the fields of `NoiseCalibration` by name (`iterations=3, cutoff=1.0, …`).
        options: those fields, and the host's own (diffusers: `mode="auto" | "in_loop" | "replay"`; ModelScope:
            `calibrate_at="x_t" | "network_input"`).

    Raises:
        TypeError: not a known pipeline, an unknown option, or a `config` that is no `NoiseCalibration`.
        ValueError: an option out of range, or a pipeline that does not start from a noised input.

    Examples:
        >>> pipe = nc_refiner.wrap(pipe, iterations=3)                              # doctest: +SKIP
        >>> image = pipe(prompt="a camel", image=image, strength=0.4).images[0]     # doctest: +SKIP
    """
    host = host_of(pipe)
    config, rest = _settings(host, pipe, config, options)
    return import_module(host.module).wrap(pipe, config, **rest)


def unwrap(pipe: Any) -> Any:
    """The very pipeline `wrap` was given; one that was never wrapped is returned as it is.

    What was put on the twin since (a scheduler, another model) is not on it; what was loaded into a model they share
    (LoRA, IP-Adapter) is.

    Raises:
        TypeError: not a known pipeline.
    """
    return import_module(host_of(pipe).module).unwrap(pipe)


def calibrated(pipe: Any, config: NoiseCalibration | None = None, **options: Any) -> AbstractContextManager[Any]:
    """Inside the block `pipe` itself is calibrated; afterwards it is what it was. Arguments and errors as `wrap`.

    Examples:
        >>> with nc_refiner.calibrated(pipe, iterations=2):                         # doctest: +SKIP
        ...     image = pipe(prompt="a camel", image=image, strength=0.4).images[0]
    """
    host = host_of(pipe)
    config, rest = _settings(host, pipe, config, options)
    manager: AbstractContextManager[Any] = import_module(host.module).calibrated(pipe, config, **rest)
    return manager
