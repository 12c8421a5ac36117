"""`wrap`, `unwrap` and `calibrated` for pipelines of any host. A host is recognised without being imported."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from .calibration import NoiseCalibration
from .naming import did_you_mean

__all__ = ["Host", "calibrated", "register_host", "unwrap", "wrap"]


@dataclass(frozen=True)
class Host:
    """One kind of pipeline that can be wrapped.

    Attributes:
        name: for messages.
        recognises: tells whether an object is this host's; must not import it.
        module: dotted name of a module with `wrap(pipe, config, **options)`, `unwrap(pipe)` and a context manager
            `calibrated(pipe, config, **options)`; imported when first needed.
        options: names of the keyword options that `wrap` and `calibrated` of the module take.
    """

    name: str
    recognises: Callable[[Any], bool]
    module: str
    options: tuple[str, ...] = ()


def _has_base(value: Any, package: str, name: str) -> bool:
    return any(
        parent.__name__ == name and parent.__module__.partition(".")[0] == package for parent in type(value).__mro__
    )


_hosts: dict[str, Host] = {
    "diffusers": Host(
        "diffusers",
        lambda value: _has_base(value, "diffusers", "DiffusionPipeline"),
        "nc_refiner.adapters.diffusers.host",
        ("mode",),
    ),
    "modelscope": Host(
        "modelscope",
        lambda value: _has_base(value, "modelscope", "VideoToVideoPipeline"),
        "nc_refiner.adapters.modelscope.host",
        ("calibrate_at",),
    ),
    "videocrafter": Host(
        "videocrafter",
        lambda value: all(hasattr(value, name) for name in ("apply_model", "q_sample", "use_scale", "uncond_type")),
        "nc_refiner.adapters.videocrafter.host",
    ),
}


def register_host(host: Host) -> None:
    """Let `wrap` know another kind of pipeline.

    Raises:
        ValueError: the name is taken by another host.
    """
    if _hosts.get(host.name, host) != host:
        raise ValueError(f"a host named {host.name!r} is already registered; choose another name")
    _hosts[host.name] = host


def _host(pipe: Any) -> Host:
    for host in _hosts.values():
        if host.recognises(pipe):
            return host
    kind = f"{type(pipe).__module__}.{type(pipe).__qualname__}"
    raise TypeError(
        f"{kind} is no pipeline that can be calibrated; known hosts: {', '.join(sorted(_hosts))}. "
        "Pass the pipeline object itself, or write an adapter (nc_refiner.adapters.RefinerAdapter)"
    )


def _split(
    host: Host, config: NoiseCalibration | None, options: dict[str, Any]
) -> tuple[NoiseCalibration, dict[str, Any]]:
    ours = {field.name for field in fields(NoiseCalibration)}
    allowed = sorted(ours | set(host.options))
    for name in options:
        if name not in allowed:
            hint = did_you_mean(name, allowed, before="; ")
            raise TypeError(f"unknown option {name!r}; allowed: {', '.join(allowed)}{hint}")
    chosen = {name: value for name, value in options.items() if name in ours}
    if config is not None and chosen:
        raise TypeError(f"give either a NoiseCalibration or {sorted(chosen)}, not both")
    rest = {name: value for name, value in options.items() if name not in ours}
    return config or NoiseCalibration(**chosen), rest


def wrap(pipe: Any, config: NoiseCalibration | None = None, **options: Any) -> Any:
    """A calibrated twin of `pipe`: the same class to its user, the same call, arguments and output.

    `pipe` stays as it is and shares its models with the twin; `unwrap` gives it back. (A VideoCrafter model, which
    owns its sampling, is changed itself and returned; `unwrap` undoes it.) Wrapping a twin again only changes its
    settings. After a call `twin.calibration_trace` holds the content loss per iteration.

    Args:
        pipe: a pipeline of a known host (diffusers: image-to-image or video-to-video; ModelScope: video-to-video).
        config: how to calibrate; or give the fields of `NoiseCalibration` by name (`iterations=3, cutoff=1.0, …`).
        options: those fields, and the host's own (diffusers: `mode="auto" | "in_loop" | "replay"`; ModelScope:
            `calibrate_at="x_t" | "network_input"`).

    Raises:
        TypeError: not a known pipeline, or an unknown option.
        ValueError: an option out of range, or a pipeline that does not start from a noised input.

    Example:
        >>> pipe = nc_refiner.wrap(pipe, iterations=3)                              # doctest: +SKIP
        >>> image = pipe(prompt="a camel", image=image, strength=0.4).images[0]     # doctest: +SKIP
    """
    host = _host(pipe)
    config, rest = _split(host, config, options)
    return import_module(host.module).wrap(pipe, config, **rest)


def unwrap(pipe: Any) -> Any:
    """The pipeline `wrap` was given; one that was never wrapped is returned as it is.

    Raises:
        TypeError: not a known pipeline.
    """
    return import_module(_host(pipe).module).unwrap(pipe)


def calibrated(pipe: Any, config: NoiseCalibration | None = None, **options: Any) -> AbstractContextManager[Any]:
    """Inside the block `pipe` itself is calibrated; afterwards it is what it was. Arguments and errors as `wrap`.

    Example:
        >>> with nc_refiner.calibrated(pipe, iterations=2):                         # doctest: +SKIP
        ...     image = pipe(prompt="a camel", image=image, strength=0.4).images[0]
    """
    host = _host(pipe)
    config, rest = _split(host, config, options)
    manager: AbstractContextManager[Any] = import_module(host.module).calibrated(pipe, config, **rest)
    return manager
