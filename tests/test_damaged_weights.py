"""Weight files that are damaged in any way are one kind of error, in one line; nothing in them is run."""

from __future__ import annotations

import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nc_refiner.adapters.embedded.weights import DEFAULT_WEIGHTS, load_network
from nc_refiner.adapters.videocrafter.checkpoint import read_state
from nc_refiner.evaluation.learned import load_tensors

TENSORS = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}


def _safetensors(path: Path) -> Path:
    save_file(TENSORS, path, metadata={"config": json.dumps({"width": 8})})
    return path


def _pickle(path: Path) -> Path:
    torch.save({"state_dict": TENSORS}, path)
    return path


def _header(path: Path, header: object, tail: bytes = b"\0" * 64) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + tail)
    return path


class _Runs:
    def __reduce__(self):
        return (Path.touch, (Path("it_ran"),))


def _odd(folder: Path) -> dict[str, Path]:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_text("not weights", encoding="utf-8")
    with (folder / "code.pth").open("wb") as file:
        pickle.dump(_Runs(), file)
    torch.save([1, 2], folder / "list.pth")
    torch.save({"module": 3}, folder / "module.pth")
    torch.save({"module": {1: 2}}, folder / "numbers.pth")
    torch.save({}, folder / "nothing.pth")
    found = {path.stem: path for path in folder.iterdir()}
    found["no config"] = _header(folder / "a.safetensors", {"x": entry})
    found["config no json"] = _header(folder / "b.safetensors", {"__metadata__": {"config": "{"}, "x": entry})
    found["config a list"] = _header(folder / "c.safetensors", {"__metadata__": {"config": "[1]"}, "x": entry})
    found["config null"] = _header(folder / "d.safetensors", {"__metadata__": {"config": "null"}, "x": entry})
    found["config odd"] = _header(
        folder / "e.safetensors", {"__metadata__": {"config": json.dumps({"width": "wide", "x": []})}, "x": entry}
    )
    found["header a list"] = _header(folder / "f.safetensors", [1])
    found["header no json"] = _header(folder / "g.safetensors", b"{{{{")
    found["offsets beyond"] = _header(folder / "h.safetensors", {"x": {**entry, "data_offsets": [0, 10**9]}})
    return found


LOADERS: dict[str, Callable[[Path], object]] = {
    "embedded": load_network,
    "videocrafter": read_state,
    "learned": load_tensors,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_odd_files_are_refused_in_words(tmp_path, monkeypatch, loader):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    for name, path in _odd(tmp_path / "files").items():
        try:
            found = LOADERS[loader](path)
        except ValueError as error:
            assert str(error) and "\n" not in str(error), name
        else:
            # What is sound for this loader is tensors and nothing else.
            assert isinstance(found, dict) and all(isinstance(v, torch.Tensor) for v in found.values()), name
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("loader", LOADERS)
def test_flipped_and_cut_files_are_read_or_refused(tmp_path, loader):
    chance = random.Random(5)
    sound = [_safetensors(tmp_path / "a.safetensors"), _pickle(tmp_path / "a.pth")]
    if loader == "embedded":
        (tmp_path / "own.safetensors").write_bytes(DEFAULT_WEIGHTS.read_bytes())
        sound.append(tmp_path / "own.safetensors")
    for path in sound:
        whole = path.read_bytes()
        for number in range(25):
            raw = bytearray(whole)
            if number % 2:
                del raw[chance.randrange(len(raw)) :]
            else:
                for _ in range(3):
                    raw[chance.randrange(min(len(raw), 600))] ^= 1 << chance.randrange(8)
            damaged = tmp_path / f"damaged{path.suffix}"
            damaged.write_bytes(bytes(raw))
            try:
                LOADERS[loader](damaged)
            except ValueError as error:
                assert "\n" not in str(error)
