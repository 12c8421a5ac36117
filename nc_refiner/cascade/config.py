"""The cascade file: its top level, its three stages, their short forms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..config.document import ConfigError, Document, read_document
from ..config.overrides import apply_overrides
from ..config.problems import raise_unknown_key, validated
from ..config.section import read_section, section_choices
from .stages.base import KINDS, Kind, StageOptions
from .stages.registry import available_stages, stage_class

__all__ = ["CascadeConfig", "OnRefinerFailure", "load_config", "parse_config"]

OnRefinerFailure = Literal["fail", "passthrough", "sdedit"]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]


class CascadeConfig(BaseModel):
    """A cascade, checked.

    Attributes:
        version: of this format; 1.
        prompt: one text or a list of them; each is run through the whole cascade. None where the base brings its own.
        negative_prompt: for every stage that takes one.
        seed: of the first prompt, 0 to 2⁶³ − 1; every further prompt has one more.
        output: folder for everything the run writes, or a name ending in `.mp4` for the final clip of a single prompt.
        base, interpolation, refiner: options of a stage; None is `none`.
        on_refiner_failure: what becomes of a prompt whose refiner fails: `fail`, `passthrough` (its input is the
            result) or `sdedit` (tried once more without calibration).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)

    version: Literal[1] = 1
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=100_000)] | None = None
    negative_prompt: str | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    output: Annotated[str, Field(min_length=1)] = "out/cascade"
    base: StageOptions
    interpolation: StageOptions | None = None
    refiner: StageOptions | None = None
    on_refiner_failure: OnRefinerFailure = "fail"

    @property
    def prompts(self) -> list[str]:
        """Every prompt, in order; empty where none was given."""
        if self.prompt is None:
            return []
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)

    def stages(self) -> list[tuple[Kind, StageOptions]]:
        """The stages that run, in order."""
        found = ((kind, getattr(self, kind)) for kind in KINDS)
        return [(kind, options) for kind, options in found if options is not None]


def load_config(path: str | os.PathLike[str], overrides: list[str] | None = None) -> CascadeConfig:
    """Read, override and check a cascade file.

    Args:
        path: the YAML file.
        overrides: texts such as `refiner.iterations=1` or `refiner=sdedit`, as `--set` takes them.

    Raises:
        ConfigError: one line: where, what was found, what is allowed.
    """
    document = read_document(Path(path))
    apply_overrides(document, overrides or [], KINDS)
    return parse_config(document)


def parse_config(document: Document) -> CascadeConfig:
    """Check a document that was read; errors as `load_config`."""
    data = dict(document.data)
    if "version" not in data:
        raise ConfigError(f"{document.name}: the key 'version' is missing; write 'version: 1'")
    for key in data:
        if key not in CascadeConfig.model_fields:
            raise_unknown_key(document, (key,), CascadeConfig.model_fields)
    bases = section_choices(available_stages("base"), needed=True)
    if "base" not in data:
        raise ConfigError(f"{document.name}: the config needs the key 'base'; {bases}")
    for kind in KINDS:
        if kind in data:
            data[kind] = stage_options(document, kind, data[kind])
    if data["base"] is None:
        raise ConfigError(f"{document.where(('base',))}: a cascade starts somewhere; {bases}")
    config: CascadeConfig = validated(CascadeConfig, data, document)
    if config.output.lower().endswith(".mp4") and len(config.prompts) > 1:
        raise ConfigError(
            f"{document.where(('output',))}: output is {config.output!r}, one file, but there are "
            f"{len(config.prompts)} prompts; give a folder"
        )
    return config


def stage_options(document: Document, kind: Kind, value: Any) -> StageOptions | None:
    """The checked options of one stage; None for `none`. Errors as `read_section`."""
    found: StageOptions | None = read_section(
        document, kind, value, available_stages(kind), lambda name: stage_class(kind, name).Options, kind == "base"
    )
    return found
