"""The file of `nc-refiner serve`: what it says, and one clear line for every mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from nc_refiner.cli.main import main
from nc_refiner.config.document import ConfigError
from nc_refiner.serving.config import load_config, schema_text
from nc_refiner.serving.tokens import token_of

from .conftest import ARMS, ONE, with_options


def written(folder, data):
    path = folder / "serve.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"version": 1}, "there is nothing to serve"),
        ({"version": 1, "refiner": "none"}, "there is nothing to serve"),
        ({"refiner": "nc"}, "the key 'version' is missing"),
        ({"version": 2, "refiner": "nc"}, "version is 2"),
        ({"version": 1, "refiner": "ncc"}, "did you mean 'nc'"),
        ({"version": 1, "refiner": {"type": "nc", "iteration": 1}}, "did you mean 'iterations'"),
        ({"version": 1, "refiner": {"type": "nc", "backbone": {"adapter": "x"}}}, "there is no adapter 'x'"),
        ({**ONE, "base": "embedded"}, "unknown key 'base'"),
        ({"version": 1, "refiner": "ab"}, "refiner needs the key 'experiment'"),
        (with_options(arms={"a": {"type": "sdedit"}}), "refiner.arms is"),
        (with_options(arms={"a": {"type": "sdedit"}, "b/c": {"type": "nc"}}), "arm 'b/c': names are letters"),
        (with_options(arms={"a": {"type": "sdedit", "iterations": 3}, "b": {"type": "nc"}}), "key 'iterations'"),
        (with_options(arms={"a": {"type": "sdedit"}, "b": {"type": "nc", "strength": 2.0}}), "strength is 2.0"),
        (with_options(weights={"x": 1.0}), "weights name x"),
        (with_options(weights={"nc": 0.0, "sdedit": 1.0}), "it must be above 0"),
        (with_options(mode="dark"), "refiner.mode is 'dark'"),
        (with_options(guardrails={"min_calls": 99}), "min_calls is 99"),
        (with_options(guardrails={"memory_bytes": 99}), "is measured where a refiner runs"),
        ({**ARMS, "serve": {"arms": {"x": {}}}}, "serve.arms names 'x'"),
        ({**ONE, "serve": {"ports": 1}}, "did you mean 'port'"),
        ({**ONE, "serve": {"port": 70000}}, "serve.port is 70000"),
        ({**ONE, "serve": {"host": "refiner.example"}}, "give an IP address or localhost"),
        ({**ONE, "serve": {"allow": {"iterations": True}}}, "a request cannot set 'iterations'"),
        ({**ONE, "serve": {"allow": {"strength": [0.5, 2.0]}}}, "give lowest and highest"),
        ({**ONE, "serve": {"allow": {"prompt": [0.0, 1.0]}}}, "prompt is text"),
        ({**ONE, "serve": {"url_prefixes": ["https://clips.example"]}}, None),
        ({**ONE, "serve": {"url_prefixes": ["https://clips.example/a"]}}, "must end with /"),
        ({**ONE, "serve": {"url_prefixes": ["file:///etc/"]}}, "must begin with https://"),
        ({**ONE, "serve": {"queue": 0}}, "serve.queue is 0"),
        ("version: 1\nrefiner: nc\nrefiner: nc\n", "given twice"),
    ],
)
def test_one_line_says_what_is_wrong_and_where(tmp_path, data, told):
    path = written(tmp_path, data)
    if told is None:
        load_config(path)
        return
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert told in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_arms_become_what_a_cascade_would_run(tmp_path):
    arms = {"a": {"type": "sdedit", "strength": 0.3}, "b": {"type": "nc", "cutoff": 0.5, "iterations": 2}}
    one, other = load_config(written(tmp_path, with_options(arms=arms))).specs().values()
    assert (one.calibration["iterations"], one.settings["strength"]) == (0, 0.3)
    assert (other.calibration["iterations"], other.calibration["cutoff"]) == (2, 0.5)
    assert "cutoff" not in one.calibration and "strength" not in other.settings
    assert other.build().calibration.cutoff == 0.5
    assert one.build().calibration.cutoff == one.build().adapter.requirements.default_cutoff


def test_replicas_of_an_arm_go_before_everyones(tmp_path):
    serve = {"replicas": 2, "max_replicas": 4, "cpus": 2.0, "arms": {"nc": {"replicas": 3, "gpus": 0.5}}}
    server = load_config(written(tmp_path, {**ARMS, "serve": serve})).serve
    assert (server.place("sdedit").replicas, server.place("sdedit").max_replicas) == (2, 4)
    own = server.place("nc")
    assert (own.replicas, own.max_replicas, own.cpus, own.gpus) == (3, 3, 2.0, 0.5)


def test_values_can_be_set_from_the_command_line(tmp_path):
    path = written(tmp_path, {**ONE, "refiner": "nc"})
    config = load_config(path, ["serve.port=9000", "refiner.iterations=1"])
    assert config.serve.port == 9000 and config.refiner.iterations == 1
    with pytest.raises(ConfigError, match=r"--set serve\.port=x: serve\.port is 'x'"):
        load_config(path, ["serve.port=x"])


def test_the_schema_takes_what_is_taken():
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for data in (ARMS, ONE, {"version": 1, "refiner": "nc", "serve": {"allow": {"strength": [0.1, 0.5]}}}):
        jsonschema.validate(data, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**ONE, "serve": {"ports": 1}}, schema)


@pytest.mark.parametrize(
    ("host", "token", "told"),
    [
        ("0.0.0.0", None, "set the environment variable NC_REFINER_TOKEN"),
        ("::", "  ", "set the environment variable"),
        ("10.0.0.1", "short", "at least 16"),
        ("127.0.0.1", "with spaces in it, long", "without spaces"),
        ("127.0.0.1", None, None),
        ("::1", None, None),
        ("0.0.0.0", "x" * 32, None),
    ],
)
def test_others_reach_it_with_a_token_alone(tmp_path, host, token, told):
    server = load_config(written(tmp_path, {**ONE, "serve": {"host": host}})).serve
    environment = {} if token is None else {"NC_REFINER_TOKEN": token}
    if told is None:
        assert token_of(server, environment) == token
        return
    with pytest.raises(ValueError, match=told):
        token_of(server, environment)


def test_without_ray_one_line_says_what_to_install(tmp_path):
    path = written(tmp_path, ONE)
    code = (
        "import sys; sys.modules['ray'] = None; from nc_refiner.cli.main import main; "
        f"sys.exit(main(['serve', {str(path)!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2
    assert ran.stderr == "nc-refiner: ray is not installed; pip install 'nc_refiner[serve]'\n"
    assert [found.name for found in tmp_path.iterdir()] == ["serve.yaml"]


def test_the_command_says_what_it_lacks(tmp_path, capsys):
    assert main(["serve"]) == 2
    assert "CONFIG is needed" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "none.yaml")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["serve", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "nc_refiner serve"


@pytest.mark.parametrize("name", ["serve-one", "serve-arms"])
def test_the_guides_files_are_taken(tmp_path, name):
    text = (Path(__file__).parents[2] / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
    (data,) = re.findall(rf"<!-- snippet: {name} -->\n```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert load_config(written(tmp_path, data)).specs()
