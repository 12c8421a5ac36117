"""JSON Schema of the cascade file, for editors."""

from __future__ import annotations

import json
from typing import Any

from .config import CascadeConfig
from .stages.base import KINDS
from .stages.registry import BUILT_IN, stage_class

__all__ = ["json_schema", "schema_text"]


def json_schema() -> dict[str, Any]:
    """The schema of a file with the stages that ship; a third party's stages are not in it."""
    schema = CascadeConfig.model_json_schema(ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = {}
    for kind in KINDS:
        choices: list[dict[str, Any]] = [{"enum": sorted(_short(kind))}]
        for name in sorted(BUILT_IN[kind]):
            options = stage_class(kind, name).Options.model_json_schema(ref_template="#/$defs/{model}")
            definitions |= options.pop("$defs", {})
            title = options["title"]
            options["required"] = sorted({*options.get("required", []), "type"})
            definitions[title] = options
            choices.append({"$ref": f"#/$defs/{title}"})
        schema["properties"][kind] = {"oneOf": choices}
    schema["$defs"] = dict(sorted(definitions.items()))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "nc_refiner cascade"
    schema["required"] = ["version", "base"]
    return schema


def _short(kind: Any) -> set[str]:
    """Names that can stand alone: stages without required options."""
    names = {
        name
        for name in BUILT_IN[kind]
        if not any(field.is_required() for field in stage_class(kind, name).Options.model_fields.values())
    }
    return names if kind == "base" else {*names, "none"}


def schema_text() -> str:
    """The schema as it stands in `configs/cascade.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
