"""`ab migrate`, `ab switch`, and `ab analyze` on what live traffic recorded."""

from __future__ import annotations

import json
import time

import pytest

from nc_refiner.cli import main
from nc_refiner.clip import VideoClip
from nc_refiner.experiment import ABRefiner

from ..experiment.conftest import Cheap


@pytest.fixture
def clip() -> VideoClip:
    import torch

    return VideoClip(torch.full((1, 3, 4, 4), 0.5))


def test_migrate_makes_and_keeps(tmp_path, capsys):
    assert main(["ab", "migrate", str(tmp_path / "ab.db")]) == 0
    assert main(["ab", "migrate", f"sqlite:///{tmp_path / 'ab.db'}"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main(["ab", "migrate", "mysql://u@h/x"]) == 2


def test_live_traffic_is_analysed(tmp_path, clip, capsys):
    path = tmp_path / "ab.db"
    with ABRefiner({"control": Cheap(0.5), "nc": Cheap(0.2)}, "e", store=path) as ab:
        for i in range(300):
            ab(clip, unit=f"u{i}")
            ab.outcome(f"u{i}", "rating", (3.0 if ab.assign(f"u{i}").arm == "control" else 4.0) + i % 5 / 10)
    options = ["--primary", "rating", "--better", "rating=higher", "--json"]
    assert main(["ab", "analyze", str(path), *options]) == 0
    text = capsys.readouterr().out
    assert json.loads(text) and "rating" in text and "nc" in text


def test_switch_reaches_a_running_process(tmp_path, clip, capsys):
    path = tmp_path / "ab.db"
    with ABRefiner({"control": Cheap(), "nc": Cheap(0.2)}, "e", store=path, poll_seconds=0.02) as ab:
        ab(clip, unit="u")
        assert ab.wait()
        for state in ("off", "on"):
            assert main(["ab", "switch", str(path), "e", state, "--arm", "nc"]) == 0
            ends = time.monotonic() + 20
            while ab.is_off("nc") != (state == "off") and time.monotonic() < ends:
                time.sleep(0.01)
            assert ab.is_off("nc") == (state == "off") and not ab.is_off("control")
    assert "e, arm nc: off" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "state", "words"), [("other", "off", "it holds none"), ("e", "maybe", "on or off")])
def test_bad_switches_are_one_line(tmp_path, capsys, name, state, words):
    assert main(["ab", "migrate", str(tmp_path / "ab.db")]) == 0
    assert main(["ab", "switch", str(tmp_path / "ab.db"), name, state]) == 2
    assert words in capsys.readouterr().err
    assert main(["ab", "switch", str(tmp_path / "no.db"), name, "off"]) == 2
    assert not (tmp_path / "no.db").exists()


def test_dead_letters_are_shown_analysed_and_replayed(tmp_path, clip, capsys):
    import sqlite3

    from nc_refiner.experiment.store import open_store

    path = tmp_path / "ab.db"
    open_store(path).close()
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TRIGGER no BEFORE INSERT ON measurements WHEN NEW.metric = 'rating' "
        "BEGIN SELECT RAISE(ABORT, 'full up'); END"
    )
    connection.commit()
    with ABRefiner({"control": Cheap(0.5), "nc": Cheap(0.2)}, "e", store=path) as ab:
        for i in range(40):
            ab(clip, unit=f"u{i}")
        for i in range(3):
            assert ab.outcome(f"u{i}", "rating", 1.0)
    assert main(["ab", "analyze", str(path), "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("3 records were refused by the database" in note for note in notes)
    assert main(["ab", "dead-letters", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.count("full up") == 3 and out.endswith("3 dead letters\n")
    assert main(["ab", "dead-letters", str(path), "--replay"]) == 0
    assert capsys.readouterr().out.startswith("0 written, 3 refused again")
    connection.execute("DROP TRIGGER no")
    connection.commit()
    connection.close()
    assert main(["ab", "dead-letters", str(path), "--replay", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stored": 3, "letters": []}
    assert len([o for o in open_store(path).observations("e") if o.metric == "rating"]) == 3
    assert main(["ab", "dead-letters", str(tmp_path / "no.db")]) == 2
