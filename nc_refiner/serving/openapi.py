"""What the API is, for machines (OpenAPI) and for people: one page that loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from pydantic import BaseModel, Field

from ..pages import look
from .config import Server

__all__ = ["JOB_BODY", "JobView", "Problem", "explained", "page"]


class Problem(BaseModel):
    """A refusal."""

    error: str = Field(description="What is wrong, in a line.")


class JobView(BaseModel):
    """A job."""

    id: str = Field(description="32 characters; whoever knows it can fetch the result.")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(description="Share of the steps that are done, 0 to 1.")
    settings: dict[str, Any] = Field(description="What is asked for, the seed included.")
    error: str | None = Field(description="Why it failed.")
    created: float = Field(description="Seconds since the epoch, UTC.")
    started: float | None
    finished: float | None
    links: dict[str, str] = Field(description="self, and once it is done result and receipt.")


JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["clip"],
                    "properties": {
                        "clip": {"type": "string", "format": "binary", "description": "A video or a picture."},
                        "settings": {"type": "string", "description": 'JSON text, such as {"seed": 1}.'},
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["url"],
                    "additionalProperties": False,
                    "properties": {
                        "url": {"type": "string", "format": "uri", "description": "Where the clip is."},
                        "settings": {"type": "object", "description": 'Such as {"seed": 1}.'},
                    },
                }
            },
        },
    }
}


def explained(server: Server, token: bool) -> str:
    """What a client must know, in a few sentences."""
    allowed = [
        name + (f" ({bounds[0]:g} to {bounds[1]:g})" if isinstance(bounds, list) else "")
        for name, bounds in server.allow.items()
    ]
    lines = [
        f"Clips of up to {server.max_megabytes:g} MB, {server.max_frames} frames, "
        f"{server.max_width}x{server.max_height} pixels.",
        f"A request may set: {', '.join(allowed) or 'nothing'}.",
        f"The same {server.unit_header} is always served in the same way; without it every request stands alone.",
        f"Clips are fetched from: {', '.join(server.url_prefixes)}."
        if server.url_prefixes
        else "No clips are fetched.",
        f"Up to {server.queue} jobs wait; beyond that the answer is 429 and Retry-After says when to come back.",
        f"Results are kept for {server.keep_hours:g} hours.",
    ]
    if token:
        lines.append("Every request shows the server's token: Authorization: Bearer TOKEN.")
    return "\n".join(lines)


STYLE = """
.method { display: inline-block; min-width: 64px; font-weight: 650; color: var(--accent); }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px;
  overflow-x: auto; }
code { font-size: 0.92em; }
"""


def page(schema: dict[str, Any]) -> str:
    """The OpenAPI description as HTML."""
    info = schema["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f'<p class="about">{escape(info["summary"])}</p>',
    ]
    parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in info["description"].splitlines()), "</ul>"]
    example = (
        "curl -F clip=@in.mp4 -F 'settings={\"seed\": 1}' -H 'X-User-Id: 42' $SERVER/v1/jobs\n"
        "curl $SERVER/v1/jobs/ID\n"
        "curl -o out.mp4 $SERVER/v1/jobs/ID/result"
    )
    parts += [f"<pre><code>{escape(example)}</code></pre>"]
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            parts.append(
                f'<h2><span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code></h2>'
                f"<p><b>{escape(call.get('summary', ''))}.</b> {escape(call.get('description', ''))}</p>"
            )
            parts += _body(call.get("requestBody"))
            parts += _answers(call.get("responses", {}))
    for name, model in sorted(schema.get("components", {}).get("schemas", {}).items()):
        parts += [f"<h2>{escape(name)}</h2>", _fields(model)]
    parts.append('<p class="note">For machines: <a href="/openapi.json">openapi.json</a></p>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>nc_refiner: API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{look()}{STYLE}</style></head><body><main class="page">{"".join(parts)}</main></body></html>'
    )


def _body(body: dict[str, Any] | None) -> list[str]:
    found = []
    for kind, content in (body or {}).get("content", {}).items():
        found += [f"<h3>{escape(kind)}</h3>", _fields(content["schema"])]
    return found


def _fields(model: dict[str, Any]) -> str:
    needed = model.get("required", [])
    rows = [
        (name, _kind(field) + ("" if name in needed else ", may be left out"), field.get("description", ""))
        for name, field in model.get("properties", {}).items()
    ]
    return _table([(f"<code>{escape(name)}</code>", escape(kind), escape(text)) for name, kind, text in rows])


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of HTML, the first cell of each its heading."""
    lines = [
        f'<tr><th scope="row">{head}</th>{"".join(f"""<td class="words">{cell}</td>""" for cell in cells)}</tr>'
        for head, *cells in rows
    ]
    return f'<div class="scroll"><table><tbody>{"".join(lines)}</tbody></table></div>'


def _kind(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    if "enum" in field:
        return " or ".join(map(json.dumps, field["enum"]))
    if field.get("format") == "binary":
        return "file"
    words = {"string": "text", "object": "names with values", "null": "nothing"}
    return words.get(field.get("type", ""), field.get("type", "anything"))


def _answers(responses: dict[str, Any]) -> list[str]:
    words = {
        "200": "fine", "202": "taken", "404": "no such job", "409": "no result, or not yet", "413": "too large",
        "422": "something in the request is wrong", "429": "too many jobs wait: come back after Retry-After seconds",
        "503": "it takes no jobs just now", "507": "the disk is full",
    }  # fmt: skip
    rows = [
        (escape(code), escape(words.get(code, answer.get("description", ""))))
        for code, answer in sorted(responses.items())
    ]
    return ["<h3>Answers</h3>", _table(rows)]
