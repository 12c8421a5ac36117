"""The site's reference pages that come from the program itself: the command line from Typer, the YAML from the schema.

python tools/site_reference.py           # writes docs/reference/cli.md and docs/reference/yaml.md
python tools/site_reference.py --check   # exit code 1 where they are stale
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import typer.main

from nc_refiner.cascade.schema import json_schema
from nc_refiner.cli.main import app
from nc_refiner.serving.config import serving_schema

FOLDER = Path(__file__).parents[1] / "docs" / "reference"


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _plain(text: str) -> str:
    """Help as a paragraph, without Typer's markers."""
    return "\n".join(line.strip() for line in text.replace("\f", "").strip().splitlines())


def _commands(command: Any, name: str) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if not inner:
        return [(name, command)]
    return [found for child, nested in inner.items() for found in _commands(nested, f"{name} {child}")]


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        words = getattr(parameter, "help", "") or ""
        return f"| `{_cell(parameter.metavar or parameter.name.upper())}` | {_cell(words)} |"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return f"| {names} | {_cell(parameter.help or '')} |"


def cli_page() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "Written by `python tools/site_reference.py`; `nc-refiner COMMAND --help` shows the same.",
        "",
    ]
    lines += ["Exit codes: 0 done, 1 the work failed (a full disk too), 2 bad input or options.", ""]
    lines += ["Asked to end (Ctrl-C, SIGTERM), a command leaves all of its outputs or none.", ""]
    for name, command in _commands(typer.main.get_command(app), "nc-refiner"):
        lines += [f"## {name}", "", _plain(command.help or ""), "", "| | |", "|---|---|"]
        lines += [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        lines.append("")
    return "\n".join(lines)


def _kind(schema: dict[str, Any]) -> str:
    """A type in words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"] if one.get("type") != "null"))
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2].removesuffix("Options")
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "object": "mapping",
    }
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}" if schema.get("items") else "list"
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    span = f", {low} to {high}" if low is not None and high is not None else ""
    return words.get(kind, "any") + span


def _attributes(description: str) -> dict[str, str]:
    """Field → words, from a docstring's `Attributes:`; a line may name several fields."""
    _, _, part = description.partition("Attributes:")
    found: dict[str, str] = {}
    for names, words in re.findall(r"^ {4}([\w, ]+): ((?:.|\n(?! {4}\w[\w, ]*: ))+)", part, flags=re.MULTILINE):
        found |= {name.strip(): " ".join(words.split()) for name in names.split(",")}
    return found


def yaml_page() -> str:
    """Every stage's keys."""
    schema = json_schema()
    lines = [
        "# YAML",
        "",
        "Written by `python tools/site_reference.py` from the schemas that `nc-refiner cascade --schema` and",
        "`nc-refiner serve --schema` print.",
        "",
    ]
    server = serving_schema()
    sections = [("The cascade", schema), *((name, one) for name, one in sorted(schema["$defs"].items()))]
    sections += [("The server", server), ("`serve:`", server["$defs"]["Server"])]
    sections += [("`serve.arms`, an entry", server["$defs"]["Place"])]
    for name, one in sections:
        description = one.get("description", "")
        kind = one.get("properties", {}).get("type", {}).get("const")
        title = f"`type: {kind}`" if kind else name.removesuffix("Options")
        lines += [
            f"## {title}",
            "",
            description.partition("Attributes:")[0].strip(),
            "",
            "| key | value | default | |",
            "|---|---|---|---|",
        ]
        words = _attributes(description)
        for key, field in one.get("properties", {}).items():
            if key == "type":
                continue
            needed = key in one.get("required", [])
            default = (
                "needed" if needed else f"`{field['default']}`" if field.get("default") not in (None, {}, "") else "–"
            )
            said = field.get("description") or words.get(key, "")
            lines.append(f"| `{key}` | {_cell(_kind(field))} | {_cell(default)} | {_cell(said)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write or check the pages; 1 where one is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is stale")
    given = parser.parse_args()
    stale = []
    for name, text in (("cli.md", cli_page()), ("yaml.md", yaml_page())):
        path = FOLDER / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not given.check:
            path.write_text(text, encoding="utf-8")
    if given.check and stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run python tools/site_reference.py\n")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
