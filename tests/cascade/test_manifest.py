"""Manifests: three forms with one meaning; what is wrong is said in one line, by its place."""

from __future__ import annotations

import json

import pytest

from nc_refiner.cascade import CascadeRunner, ConfigError, load_config
from nc_refiner.cascade.manifest import read_manifest
from nc_refiner.video import FrameWriter

from ..cli.conftest import Call, call  # noqa: F401
from ..video.conftest import moving
from .conftest import clips, folders

pytestmark = pytest.mark.usefixtures("small_model")

ROWS = [
    {"id": "Shot_7", "prompt": "a camel", "seed": 3, "film": "desert"},
    {"id": "À la plage/2", "prompt": "clouds", "seed": 9, "film": "sky"},
]


def write(tmp_path, form):
    path = tmp_path / f"list.{form}"
    if form == "csv":
        lines = ["id,prompt,seed,film", *(",".join(str(value) for value in row.values()) for row in ROWS)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")
    else:
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_three_forms_mean_one_thing(form, tmp_path):
    first, second = read_manifest(write(tmp_path, form))
    assert (first.name, first.prompt, first.seed) == ("Shot_7", "a camel", 3)
    assert first.extra == {"id": "Shot_7", "film": "desert"} and first.source is None
    assert second.name.startswith("a-la-plage-2-") and second.extra["id"] == "À la plage/2"


def test_without_ids_and_seeds_the_order_counts(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("prompt\none\ntwo\none\n", encoding="utf-8")
    assert [(item.name, item.seed) for item in read_manifest(path, 5)] == [
        ("000-one", 5),
        ("001-two", 6),
        ("002-one", 7),
    ]


BAD = [
    ("csv", "film,seed\na,1\n", "neither a column 'prompt' nor 'source'; its columns: film, seed"),
    ("csv", "id,prompt\na,x\nb,y\na,z\n", "list.csv:4: the id 'a' is there twice, first in"),
    ("csv", "prompt,prompt\na,b\n", "'prompt' is there twice"),
    ("csv", "id,prompt\na\n", "list.csv:2: this row has not as many cells"),
    ("csv", "id,prompt\na,b,c\n", "list.csv:2: this row has not as many cells"),
    ("csv", "prompt,seed\na,1.5\n", "list.csv:2: seed is '1.5'"),
    ("csv", "prompt,seed\na,-1\n", "seed is '-1'"),
    ("csv", "id,prompt\nb,x\na,\n", "list.csv:3: this row has neither a prompt nor a source"),
    ("csv", "", "holds 0 rows"),
    ("jsonl", '{"prompt": "a"}\n{"prompt": 3}\n', "list.jsonl:2: prompt is 3"),
    ("jsonl", '{"prompt": "a"\n', "list.jsonl:1: no JSON"),
    ("jsonl", "[1]\n", "list.jsonl:1: a row is an object"),
    ("parquet", "no parquet", "is no Parquet file"),
    ("txt", "a\n", "must end in .csv, .jsonl or .parquet"),
]


@pytest.mark.parametrize(("form", "text", "words"), BAD)
def test_what_is_wrong_is_one_line(form, text, words, tmp_path, small, call: Call):  # noqa: F811
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / f"list.{form}"
    path.write_text(text, encoding="utf-8")
    outcome = call("cascade", small, "--manifest", path, "--output", tmp_path / "out")
    assert outcome.code == 2 and words in outcome.line
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_manifest(tmp_path / "no.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_manifest("nosuch://bucket/list.csv")


def test_sources_of_a_manifest(tmp_path):
    for name in ("one", "two"):
        with FrameWriter(tmp_path / f"{name}.mp4", 8) as writer:
            writer.write(moving(3, 32, 48))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    url = (tmp_path / "two.mp4").as_uri()
    lines = ["id,source,prompt", "a,one.mp4,first", f"b,{url},second", "c,broken.mp4,", "d,gone.mp4,"]
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "file.yaml"
    path.write_text(
        "version: 1\nbase: file\nrefiner: {type: sdedit, num_inference_steps: 4, strength: 0.5}\n", encoding="utf-8"
    )
    items = read_manifest(tmp_path / "list.csv")
    summary = CascadeRunner(load_config(path), items=items, output=tmp_path / "out").run()
    # Those that are broken cost themselves alone.
    assert [one.failed for one in summary.items] == [False, False, True, True]
    assert [folder.name for folder in folders(tmp_path / "out") if (folder / "final.mp4").is_file()] == ["a", "b"]
    made = clips(tmp_path / "out")
    assert made["a/refiner.frames.mkv"] != made["b/refiner.frames.mkv"]  # another seed
    again = CascadeRunner(load_config(path), items=items, output=tmp_path / "out", resume=True).run()
    assert [one.stages.get("refiner") for one in again.items] == ["skipped", "skipped", None, None]


def test_sources_fit_the_base(tmp_path, small):
    (tmp_path / "list.csv").write_text("id,source\na,one.mp4\n", encoding="utf-8")
    items = read_manifest(tmp_path / "list.csv")
    with pytest.raises(ConfigError, match=r"takes no clips; write 'base: \{type: file\}'"):
        CascadeRunner(load_config(small), items=items, output=tmp_path / "out")
    (tmp_path / "list.csv").write_text("id,prompt\na,one\n", encoding="utf-8")
    items = read_manifest(tmp_path / "list.csv")
    path = tmp_path / "file.yaml"
    path.write_text("version: 1\nbase: file\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="names no source for a"):
        CascadeRunner(load_config(path), items=items, output=tmp_path / "out")
