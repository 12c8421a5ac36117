"""Every file of the corpus `malformed/` gets one clear line and exit code 2, and nothing is written.

The first line of each file holds words that the answer must contain; that comment is part of what is read.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nc_refiner.cascade.config import parse_config
from nc_refiner.config.document import ConfigError, Document, parse_yaml, read_document

from ..cli.conftest import Call, call, contents  # noqa: F401

CORPUS = sorted((Path(__file__).parent / "malformed").glob("*.yaml"))


def test_the_corpus_is_there():
    assert len(CORPUS) >= 50


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_one_line_and_exit_code_2(path, call: Call, tmp_path, monkeypatch):  # noqa: F811
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ")
    monkeypatch.chdir(tmp_path)
    outcome = call("cascade", path)
    assert outcome.code == 2
    assert expected in outcome.line
    assert len(outcome.line) < 600
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00version", "UTF-8"),
        (b"version: 1\n" + b"#" * (1 << 20), "larger than"),
    ],
)
def test_files_that_are_no_text(content, words, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_document(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_document(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_document(tmp_path)


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "version: 1\nbase: embedded\nrefiner:\n  type: nc\n  cutoff: 1.0\n  iteration: 2\n", encoding="utf-8"
    )
    with pytest.raises(
        ConfigError, match=r"config\.yaml:6: unknown key 'iteration' in refiner; did you mean 'iterations'"
    ):
        parse_config(read_document(path))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["version", "base", "interpolation", "refiner", "prompt", "seed", "output", "on_refiner_failure"]
)


@given(st.dictionaries(keys | st.text(max_size=8), plain, max_size=5))
def test_whatever_is_in_it_the_answer_is_one_line(data):
    try:
        parse_config(Document("config.yaml", {"version": 1, "base": "embedded", **data}))
    except ConfigError as error:
        assert str(error) and "pydantic" not in str(error)


@given(st.text(max_size=60) | st.text(alphabet=":-[]{}&*!|>'\" \n#,?<ab1", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        parse_yaml(text, "config.yaml")
    except ConfigError as error:
        assert str(error).startswith("config.yaml") and "\n" not in str(error)
