"""A workflow as ComfyUI's page saves it, turned into what its server runs, by the nodes' own definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ONLY_ON_THE_PAGE = ("MarkdownNote", "Note")
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def inputs_of(node: Any) -> Iterator[tuple[str, str, bool, dict[str, Any]]]:
    """Name, type, whether it is a field of the node (not a socket), and the options, in their order."""
    for part in ("required", "optional"):
        for name, declared in (node.INPUT_TYPES().get(part) or {}).items():
            options = declared[1] if len(declared) > 1 else {}
            kind = "COMBO" if isinstance(declared[0], (list, tuple)) else str(declared[0])
            yield name, kind, kind in _WIDGETS and not options.get("forceInput"), options


def to_api(document: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The workflow in the API's form.

    Raises:
        AssertionError: a node, socket, link, type or number of fields that the definitions in `nodes` do not have.
    """
    links = {link[0]: link for link in document["links"]}
    by_id = {node["id"]: node for node in document["nodes"]}
    prompt = {}
    for node in document["nodes"]:
        kind = node["type"]
        if kind in ONLY_ON_THE_PAGE:
            continue
        assert kind in nodes, f"there is no node {kind}"
        values, sockets = list(node["widgets_values"]), {socket["name"]: socket for socket in node["inputs"]}
        given: dict[str, Any] = {}
        for name, expected, field, options in inputs_of(nodes[kind]):
            if field:
                assert values, f"{kind} has no value for {name}"
                given[name] = values.pop(0)
                extra = sum(
                    bool(options.get(key)) for key in ("control_after_generate", "image_upload", "video_upload")
                )
                del values[:extra]
                continue
            socket = sockets.pop(name, None)
            if socket is None or socket["link"] is None:
                continue
            _, source, slot, target, place, through = links[socket["link"]]
            assert target == node["id"] and node["inputs"][place] is socket
            outputs = nodes[by_id[source]["type"]].RETURN_TYPES
            assert slot < len(outputs), f"{by_id[source]['type']} has no output {slot}"
            assert str(outputs[slot]) == expected == through, f"{kind}.{name} takes {expected}, gets {outputs[slot]}"
            assert socket["link"] in by_id[source]["outputs"][slot]["links"]
            given[name] = [str(source), slot]
        assert not values and not sockets, f"{kind} has no {values or list(sockets)}"
        prompt[str(node["id"])] = {"class_type": kind, "inputs": given}
    return prompt
