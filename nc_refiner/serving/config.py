"""The file of `nc-refiner serve`: one refiner or the arms of an experiment, who gets which, and the server."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from ..adapters.registry import available
from ..config.document import ConfigError, read_document
from ..config.options import Options
from ..config.overrides import apply_overrides
from ..config.problems import raise_unknown_key, validated
from ..config.refiner import NCOptions, SDEditOptions, refiner_options
from ..experiment.live.assignment import Split
from ..experiment.live.budgets import Guardrails
from ..experiment.offline.config import NAME, SETTINGS, ArmConfig
from ..naming import did_you_mean
from ..refining.settings import RefineSettings
from .fetch import Prefix
from .worker import ArmSpec

__all__ = ["ALLOWABLE", "Live", "Place", "Server", "ServingConfig", "is_loopback", "load_config", "schema_text"]

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
Share = Annotated[float, Field(gt=0)]
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
        own = self.arms.get(arm, Place())
        replicas = own.replicas or self.replicas
        most = own.max_replicas or (self.max_replicas if own.replicas is None else None) or replicas
        return Place(
            replicas=replicas,
            max_replicas=max(most, replicas),
            cpus=self.cpus if own.cpus is None else own.cpus,
            gpus=self.gpus if own.gpus is None else own.gpus,
        )


class Rails(Options):
    """Guardrails of every arm but the control; fields as in `Guardrails`."""

    seconds: Annotated[float, Field(gt=0)] | None = None
    window: int = Field(50, ge=1, le=100_000)
    min_calls: int = Field(10, ge=1, le=100_000)
    max_failure_rate: float = Field(0.2, ge=0, le=1)

    def guardrails(self) -> Guardrails:
        """As the router takes them."""
        return Guardrails(**self.model_dump())


class Live(Options):
    """The section `live:`: how users are shared out among the arms, and where it is recorded.

    Attributes:
        weights: arm → weight; default: equal.
        salt, ramp, holdout, holdout_name, layer, slots: as in `nc_refiner.experiment.Split`.
        mode: `live`, or `shadow`: everyone is given the control, the other arms run afterwards for the record alone.
        store: URL of a database, or an SQLite file beside this one; default: `records.db` in `serve.folder`.
        guardrails: what an arm may cost before the control answers instead.
        switch_file: while this file exists the arms named in it are off, all if it is empty.
    """

    weights: dict[str, Share] | None = None
    salt: str = ""
    ramp: float = Field(1.0, ge=0, le=1)
    holdout: float = Field(0.0, ge=0, lt=1)
    holdout_name: str = "global"
    layer: str | None = None
    slots: Range = Field([0.0, 1.0])
    mode: Literal["live", "shadow"] = "live"
    store: str | None = None
    guardrails: Rails = Rails()
    switch_file: str | None = None

    @model_validator(mode="after")
    def _in_range(self) -> Live:
        try:
            self.guardrails.guardrails()
        except ValueError as error:
            raise ValueError(f"guardrails: {error}") from None
        return self


def _arm(value: Any) -> Any:
    return {"refiner": value} if isinstance(value, str) else value


class ServingConfig(Options):
    """The file of `nc-refiner serve`, checked.

    Attributes:
        version: of this format; 1.
        refiner: the one refiner that is served, as in a cascade; or
        experiment, arms, control, adapter, settings: an experiment's arms, as in the file of `nc-refiner ab run`.
        live: how users are shared out.
        serve: the server.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)

    version: Literal[1]
    refiner: NCOptions | SDEditOptions | None = None
    experiment: Annotated[str, Field(pattern=f"^{NAME.pattern}$")] | None = None
    adapter: dict[str, Any] = Field({"name": "embedded"})
    settings: dict[str, Any] = Field({})
    arms: dict[str, Annotated[ArmConfig, BeforeValidator(_arm)]] = Field({})
    control: str | None = None
    live: Live = Live()
    serve: Server = Server()

    @model_validator(mode="after")
    def _consistent(self) -> ServingConfig:
        if (self.refiner is None) == (not self.arms):
            raise ValueError("give either refiner: (one refiner) or experiment: with arms:, and not both")
        if not self.arms:
            return self
        if self.experiment is None:
            raise ValueError("arms need the key 'experiment', the name under which they are recorded")
        if len(self.arms) < 2:
            raise ValueError("arms has one; an experiment needs a control and at least one other, or write refiner:")
        for name in (*self.arms, *self.serve.arms):
            if not NAME.fullmatch(name):
                raise ValueError(f"arm {name!r}: names are letters, digits, dots, dashes and underscores")
        for name in self.serve.arms:
            _known("serve.arms", name, list(self.arms))
        for adapter in (self.adapter, *(arm.adapter for arm in self.arms.values() if arm.adapter is not None)):
            _known("adapter's name", str(adapter.get("name")), available())
        for key in self.settings:
            _known("settings key", key, SETTINGS)
        RefineSettings(**self.settings)
        self.split()
        return self

    def split(self) -> Split:
        """How users are shared out; ValueError where that does not fit the arms."""
        live = self.live
        weights = dict.fromkeys(self.arms, 1.0) if live.weights is None else dict(live.weights)
        for name in weights:
            _known("live.weights", name, list(self.arms))
        return Split(
            self.experiment or "",
            weights,
            control=self.control or "",
            salt=live.salt,
            ramp=live.ramp,
            holdout=live.holdout,
            holdout_name=live.holdout_name,
            layer=live.layer,
            slots=(live.slots[0], live.slots[1]),
        )

    def specs(self) -> dict[str, ArmSpec]:
        """Every refiner that is to be deployed, as plain data; a single one is called `refiner`."""
        if self.refiner is not None:
            one = self.refiner
            calibration = _calibration(one.calibration(), getattr(one, "cutoff", None))
            return {"refiner": ArmSpec(one.backbone.adapter, one.backbone.options, calibration, one.settings())}
        shared, found = RefineSettings(**self.settings), {}
        for name, arm in self.arms.items():
            options = dict(self.adapter if arm.adapter is None else arm.adapter)
            adapter = options.pop("name")
            chosen = arm.settings(shared, 0)
            settings = {field.name: getattr(chosen, field.name) for field in fields(RefineSettings)}
            kept = {key: value for key, value in settings.items() if value is not None and key != "seed"}
            found[name] = ArmSpec(adapter, options, _calibration(arm.calibration(), arm.cutoff), kept)
        return found


def _calibration(calibration: Any, cutoff: float | None) -> dict[str, Any]:
    """Fields of `NoiseCalibration`, without a cutoff where the adapter's own counts."""
    found = asdict(calibration)
    if cutoff is None:
        del found["cutoff"]
    return found


def _known(what: str, found: str, allowed: list[str] | tuple[str, ...]) -> None:
    if found not in allowed:
        hint = did_you_mean(found, allowed, before="; ")
        raise ValueError(f"{what} is {found!r}; allowed: {', '.join(allowed)}{hint}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


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
    if "refiner" in data:
        data["refiner"] = refiner_options(document, data["refiner"])
    config: ServingConfig = validated(ServingConfig, data, document)
    return config


def schema_text() -> str:
    """The JSON Schema of the file, for editors."""
    schema = ServingConfig.model_json_schema()
    choices = [{"$ref": "#/$defs/NCOptions"}, {"$ref": "#/$defs/SDEditOptions"}]
    schema["properties"]["refiner"] = {"oneOf": [{"enum": ["nc", "sdedit"]}, *choices]}
    arm = schema["properties"]["arms"]["additionalProperties"]
    schema["properties"]["arms"]["additionalProperties"] = {"oneOf": [{"enum": ["nc", "sdedit"]}, arm]}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "nc_refiner serve"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
