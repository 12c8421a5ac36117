"""The ModelScope benchmark with the host's own network at tiny size: what it counts, what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import benchmark_modelscope

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("modelscope_stack")]


def test_both_solvers_and_exactly_n_guided_evaluations_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], global_rng_untouched: None
) -> None:
    path = tmp_path / "rows.json"
    assert benchmark_modelscope.main(["--tiny", "--json", str(path)]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["frames"], found["height"], found["width"], found["dtype"]) == (2, 80, 64, "torch.float32")
    for solver, stock in (("dpmpp_2m_sde", 4), ("heun", 2 * 4 - 1)):
        rows = [row for row in found["rows"] if row["solver"] == solver]
        assert [row["run"] for row in rows] == ["stock", "N=1", "N=2", "N=3"]
        assert [row["evaluations"] for row in rows] == [2 * (stock + n) for n in range(4)]
        assert [row["guided_evaluations"] for row in rows] == [0, 1, 2, 3]
    assert capsys.readouterr().out.count("\n") == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--height", "128"], "(64·n + 16)"),
        (["--frames", "1"], "at least 2 frames"),
        (["--steps", "0"], "num_inference_steps is 0"),
        (["--strength", "1.5"], "strength is 1.5"),
        (["--repeats", "0"], "--repeats is 0"),
    ],
)
def test_bad_input(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark_modelscope.main(["--tiny", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_full_size_wants_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert benchmark_modelscope.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
