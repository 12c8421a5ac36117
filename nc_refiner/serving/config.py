"""The file of `nc-refiner serve`: one refiner or the arms of an experiment, who gets which, and the server."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..cascade.stages.ab import ABOptions
from ..config.document import ConfigError, read_document
from ..config.options import Options, StageOptions
from ..config.overrides import apply_overrides
from ..config.problems import raise_unknown_key, validated
from ..config.refiner import NCOptions, SDEditDescription, SDEditOptions, calibration_fields
from ..config.section import read_section
from ..naming import did_you_mean
from .fetch import Prefix
from .worker import ArmSpec

__all__ = [
    "ALLOWABLE",
    "Place",
    "Server",
    "ServingConfig",
    "load_config",
    "schema_text",
    "serving_schema",
]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SINGLE = "refiner"
"""What a refiner is called that is served alone."""
ALLOWABLE = {
    "seed": (0, 2**63 - 1),
    "strength": (0.0, 1.0),
    "num_inference_steps": (1, 10_000),
    "guidance_scale": (0.0, 1000.0),
    "prompt": None,
    "negative_prompt": None,
}
"""What a request may set where the file allows it, and the widest range of each; None: text."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class Place(Options):
    """How one refiner is spread over the machines; what is left out is as in `serve:`.

    Attributes:
        replicas: copies of the model that run side by side.
        max_replicas: up to so many are started while jobs wait; default: `replicas`, always.
        cpus, gpus: of each; a part of a GPU lets copies share one.
    """

    replicas: int | None = Field(None, ge=1, le=1000)
    max_replicas: int | None = Field(None, ge=1, le=1000)
    cpus: float | None = Field(None, ge=0, le=1000)
    gpus: float | None = Field(None, ge=0, le=64)


class Server(Options):
    """The section `serve:`.

    Attributes:
        host, port: to listen on; port 0 is any free one. Beyond this machine a token is needed.
        hosts: further names that clients reach this machine by (the Host header), where it listens on loopback.
        folder: for jobs and results, beside the file unless absolute; made if missing; one server at a time.
        replicas, max_replicas, cpus, gpus: as in `Place`, for every arm; `gpus` by default 1 where the cluster has any.
        arms: arm → what differs for it, as in `Place`.
        max_megabytes: of a clip's file.
        max_frames, max_height, max_width: of a clip.
        queue: jobs that may wait; beyond it a client is told to come back later (429).
        allow: settings that a request may give: `seed: true`, `strength: [0.1, 0.6]`.
        upload_seconds: how long sending a clip may take.
        url_prefixes: clips are also fetched from addresses that begin with one of these; each ends with `/`.
        private_urls: such an address may lead into a private network by name.
        url_seconds: how long fetching a clip may take.
        token_env: the environment variable with the token that clients must show; set, it is always asked for.
        unit_header: the request's header whose value decides the arm; the same value, the same arm.
        seconds: how long a refiner may take for one clip, waiting for a free copy included.
        attempts: how often a clip is tried whose worker was lost.
        drain_seconds: how long running and waiting jobs may go on after SIGTERM.
        keep_hours: how long a finished job is kept.
    """

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    hosts: list[str] = Field([])
    folder: Annotated[str, Field(min_length=1)] = "serve"
    replicas: int = Field(1, ge=1, le=1000)
    max_replicas: int | None = Field(None, ge=1, le=1000)
    cpus: float = Field(1.0, ge=0, le=1000)
    gpus: float | None = Field(None, ge=0, le=64)
    arms: dict[str, Place] = Field({})
    max_megabytes: float = Field(100.0, gt=0, le=100_000)
    max_frames: int = Field(300, ge=1, le=1_000_000)
    max_height: int = Field(1080, ge=16, le=16384)
    max_width: int = Field(1920, ge=16, le=16384)
    queue: int = Field(64, ge=1, le=1_000_000)
    allow: dict[str, Literal[True] | Range] = Field({"seed": True, "prompt": True})
    upload_seconds: Seconds = 300.0
    url_prefixes: list[str] = Field([])
    private_urls: bool = False
    url_seconds: Seconds = 60.0
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "NC_REFINER_TOKEN"
    unit_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "X-User-Id"
    seconds: Seconds = 3600.0
    attempts: int = Field(3, ge=1, le=20)
    drain_seconds: Seconds = 600.0
    keep_hours: Annotated[float, Field(gt=0, le=8760)] = 24.0

    @model_validator(mode="after")
    def _consistent(self) -> Server:
        for name, bounds in self.allow.items():
            if name not in ALLOWABLE:
                hint = did_you_mean(name, ALLOWABLE, before="; ")
                raise ValueError(f"allow: a request cannot set {name!r}; it may set {', '.join(ALLOWABLE)}{hint}")
            widest = ALLOWABLE[name]
            if isinstance(bounds, list):
                if widest is None:
                    raise ValueError(f"allow: {name} is text and has no range; write {name}: true")
                low, high = bounds
                if not widest[0] <= low <= high <= widest[1]:
                    raise ValueError(
                        f"allow: {name} is {bounds}; give lowest and highest, within {widest[0]:g} and {widest[1]:g}"
                    )
        for text in self.url_prefixes:
            Prefix.parsed(text, self.private_urls)
        if self.host != "localhost":
            try:
                ipaddress.ip_address(self.host)
            except ValueError:
                raise ValueError(f"host is {self.host!r}; give an IP address or localhost") from None
        return self

    def place(self, arm: str) -> Place:
        """Replicas, CPUs and GPUs of `arm`; `gpus` may be None."""
        own = self.arms.get(arm) or Place.model_validate({})
        replicas = own.replicas or self.replicas
        most = own.max_replicas or (self.max_replicas if own.replicas is None else None) or replicas
        return Place(
            replicas=replicas,
            max_replicas=max(most, replicas),
            cpus=self.cpus if own.cpus is None else own.cpus,
            gpus=self.gpus if own.gpus is None else own.gpus,
        )


Refiner = ABOptions | NCOptions | SDEditOptions
KINDS: dict[str, type[StageOptions]] = {"ab": ABOptions, "nc": NCOptions, "sdedit": SDEditOptions}


class ServingConfig(Options):
    """The file of `nc-refiner serve`, checked.

    Attributes:
        version: of this format; 1.
        refiner: what is served, written as in a cascade: `nc`, `sdedit`, or `ab`, an experiment with its arms.
        serve: the server.
    """

    version: Literal[1]
    refiner: Annotated[Refiner, Field(discriminator="type")]
    serve: Server = Field(default_factory=lambda: Server.model_validate({}))

    @model_validator(mode="after")
    def _consistent(self) -> ServingConfig:
        experiment = self.experiment
        names = [SINGLE] if experiment is None else list(experiment.arms)
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"arm {name!r}: names are letters, digits, dots, dashes and underscores")
        for name in self.serve.arms:
            if name not in names:
                hint = did_you_mean(name, names, before="; ")
                raise ValueError(f"serve.arms names {name!r}; the arms are {', '.join(names)}{hint}")
        if experiment is not None and experiment.guardrails.memory_bytes is not None:
            raise ValueError("guardrails.memory_bytes is measured where a refiner runs, which is not in the server")
        return self

    @property
    def experiment(self) -> ABOptions | None:
        """The experiment; None where one refiner is served."""
        return self.refiner if isinstance(self.refiner, ABOptions) else None

    def specs(self) -> dict[str, ArmSpec]:
        """Every refiner that is to be deployed, as plain data; a single one is called `refiner`."""
        arms = {SINGLE: self.refiner} if isinstance(self.refiner, SDEditDescription) else self.refiner.arms
        return {name: _spec(arm) for name, arm in arms.items()}


def _spec(arm: SDEditDescription) -> ArmSpec:
    # A cutoff that is left out is the adapter's, which is known where the refiner is built.
    calibration = (
        calibration_fields(arm.model_dump(exclude_none=True)) if isinstance(arm, NCOptions) else {"iterations": 0}
    )
    return ArmSpec(arm.backbone.adapter, arm.backbone.options, calibration, arm.settings())


def load_config(path: str | os.PathLike[str], overrides: list[str] | None = None) -> ServingConfig:
    """Read, override and check the file at `path`.

    Args:
        path: the YAML file.
        overrides: texts such as `serve.port=9000`, as `--set` takes them.

    Raises:
        ConfigError: one line: where, what was found, what is allowed.
    """
    document = read_document(Path(path))
    apply_overrides(document, overrides or [], ("refiner",))
    data = dict(document.data)
    if "version" not in data:
        raise ConfigError(f"{document.name}: the key 'version' is missing; write 'version: 1'")
    for key in data:
        if key not in ServingConfig.model_fields:
            raise_unknown_key(document, (key,), ServingConfig.model_fields)
    found = read_section(document, "refiner", data.get("refiner"), KINDS, KINDS.__getitem__, needed=True)
    if found is None:
        raise ConfigError(f"{document.where(('refiner',))}: there is nothing to serve; write refiner: nc")
    data["refiner"] = found
    config: ServingConfig = validated(ServingConfig, data, document)
    return config


def serving_schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    schema = ServingConfig.model_json_schema()
    # The short form of a refiner, as a cascade takes it.
    schema["properties"]["refiner"] = {"oneOf": [{"enum": ["nc", "sdedit"]}, schema["properties"]["refiner"]]}
    for name in ("ABOptions", "NCOptions", "SDEditOptions"):
        options = schema["$defs"][name]
        options["required"] = sorted({*options.get("required", []), "type"})
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "nc_refiner serve"
    return schema


def schema_text() -> str:
    """The same as text, for editors."""
    return json.dumps(serving_schema(), indent=2, ensure_ascii=False) + "\n"
