"""The example workflows before ComfyUI's own validator and on its own page, and the folder before its own reader."""

from __future__ import annotations

import asyncio
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .comfyui_graph import to_api
from .comfyui_rig import checkout, imported
from .comfyui_server import NODE, lay_out, started

pytestmark = pytest.mark.slow

WORKFLOWS = sorted((NODE / "example_workflows").glob("*.json"))
FILES = (
    "checkpoints/sd_xl_base_1.0.safetensors",
    "checkpoints/sd_xl_refiner_1.0.safetensors",
    "checkpoints/ltx-video-2b-v0.9.5.safetensors",
    "diffusion_models/wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors",
    "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "text_encoders/t5xxl_fp16.safetensors",
    "vae/wan_2.1_vae.safetensors",
)
"""Model files that the workflows name: empty ones, for neither the validator nor the page opens them."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base directory in which every file that the workflows name is there."""
    root = checkout()
    folder = tmp_path_factory.mktemp("comfyui")
    lay_out(root, folder)
    for name in FILES:
        path = folder / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shutil.copy(folder / "input" / "frame.png", folder / "input" / "example.png")
    (folder / "input" / "clip.mp4").touch()
    return root, folder


@pytest.fixture(scope="module")
def nodes(base):
    """ComfyUI's nodes and ours, as its own start-up loads them; it looks for files in `base` meanwhile."""
    root, folder = base
    imported(root)
    import folder_paths
    import nodes as builtin

    before, input_before = dict(folder_paths.folder_names_and_paths), folder_paths.get_input_directory()
    for name, (places, endings) in before.items():
        folder_paths.folder_names_and_paths[name] = ([*places, str(folder / "models" / name)], endings)
    folder_paths.set_input_directory(str(folder / "input"))
    asyncio.run(builtin.init_builtin_extra_nodes())
    assert asyncio.run(builtin.load_custom_node(str(folder / "custom_nodes" / "nc_refiner")))
    yield builtin.NODE_CLASS_MAPPINGS
    folder_paths.folder_names_and_paths.update(before)
    folder_paths.set_input_directory(input_before)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_comfyuis_validator_finds_nothing_wrong(nodes, path):
    from execution import validate_prompt

    document = json.loads(path.read_text("utf-8"))
    prompt = to_api(document, nodes)
    valid, error, outputs, wrong = asyncio.run(validate_prompt("1", prompt, None))
    assert valid and not error and not wrong
    kinds = [node["class_type"] for node in prompt.values()]
    assert kinds.count("NoiseCalibration") == kinds.count("NoiseCalibrationReport") == 1
    assert {prompt[name]["class_type"] for name in outputs} & {"SaveImage", "SaveVideo"}
    # Every sampler after ours starts from a latent, and below full noise.
    ours = next(name for name, node in prompt.items() if node["class_type"] == "NoiseCalibration")
    (sampler,) = [node for node in prompt.values() if "cfg" in node["inputs"] and node["inputs"]["model"] == [ours, 0]]
    assert sampler["inputs"].get("denoise", 0) < 1 and sampler["inputs"].get("add_noise", True)


def test_a_wrong_link_or_value_is_found(nodes):
    from execution import validate_prompt

    document = json.loads(WORKFLOWS[-1].read_text("utf-8"))
    prompt = to_api(document, nodes)
    ours = next(node for node in prompt.values() if node["class_type"] == "NoiseCalibration")
    ours["inputs"]["iterations"] = 101
    assert not asyncio.run(validate_prompt("1", prompt, None))[0]
    link = document["links"][0]
    link[2] += 1
    with pytest.raises(AssertionError):
        to_api(document, nodes)


def test_the_registrys_own_reader_understands_the_folder(base):
    root, folder = base
    imported(root)
    from comfy_config import config_parser

    found = config_parser.extract_node_configuration(str(folder / "custom_nodes" / "nc_refiner"))
    assert found.project.name == "noise-calibration" and found.project.dependencies == ["nc_refiner"]
    assert found.tool_comfy.publisher_id and found.tool_comfy.display_name == "Noise Calibration"


def test_the_workflows_open_on_the_real_page(base, browser):
    """Each node is known, each field holds its value, each link its place; ours show their names."""
    if find_spec("comfyui_frontend_package") is None:
        pytest.skip("needs comfyui-frontend-package")
    root, folder = base
    ask = """() => window.app.graph._nodes.map(node => ({
        id: node.id, type: node.type, title: node.title, known: !node.has_errors,
        values: (node.widgets || []).map(widget => widget.value), links: (node.inputs || []).map(one => one.link)}))"""
    with started(root, folder) as server:
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(server.url)
        page.wait_for_function("window.app && window.app.graph && window.app.canvas", timeout=90_000)
        page.wait_for_function("'NoiseCalibrationReport' in window.LiteGraph.registered_node_types", timeout=90_000)
        for path in WORKFLOWS:
            document = json.loads(path.read_text("utf-8"))
            page.evaluate("document => window.app.loadGraphData(document)", document)
            page.wait_for_timeout(1000)
            shown: dict[Any, Any] = {node["id"]: node for node in page.evaluate(ask)}
            assert len(shown) == len(document["nodes"])
            for node in document["nodes"]:
                there = shown[node["id"]]
                assert there["type"] == node["type"] and there["known"]
                count = len(node["widgets_values"])
                assert there["values"][:count] == node["widgets_values"] or node["type"] in ("LoadImage", "LoadVideo")
                wanted = [socket["link"] for socket in node["inputs"] if socket["link"] is not None]
                assert [link for link in there["links"] if link is not None] == wanted
            assert {"Noise Calibration", "Calibration Report"} <= {node["title"] for node in shown.values()}
        page.close()


def test_each_workflow_has_its_picture():
    from PIL import Image

    assert len(WORKFLOWS) == 4
    for path in WORKFLOWS:
        with Image.open(path.with_suffix(".jpg")) as image:
            assert image.width >= 400
        assert path.with_suffix(".jpg").stat().st_size < 120_000


def test_the_names_of_the_models_are_those_of_this_test():
    found = set()
    for path in WORKFLOWS:
        for node in json.loads(path.read_text("utf-8"))["nodes"]:
            found |= {str(value) for value in node["widgets_values"] if str(value).endswith(".safetensors")}
    assert found == {Path(name).name for name in FILES}
