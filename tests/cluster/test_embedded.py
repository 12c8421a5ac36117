"""The embedded cascade with two and with four workers: every byte as in one process."""

from __future__ import annotations

import os

import pytest

from nc_refiner.cascade import CascadeRunner, load_config
from nc_refiner.cascade.cluster import ClusterRunner, read_results

from .conftest import videos

CLIPS = int(os.environ.get("NC_REFINER_BATCH_CLIPS", "12"))
"""200 is what was promised; it takes as long on a slow machine as all other tests together."""
SMALL = """version: 1
seed: 5
base: {type: embedded, frames: 2, height: 32, width: 32, num_inference_steps: 2}
interpolation: {type: blend, factor: 2}
refiner: {type: nc, iterations: 1, num_inference_steps: 4, strength: 0.5}
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ray_here")
def test_bytes_with_two_and_four_workers(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    config = load_config(tmp_path / "small.yaml")
    prompts = [f"clip {index}" for index in range(CLIPS)]
    CascadeRunner(config, prompts=prompts, output=tmp_path / "serial").run()
    wanted = videos(tmp_path / "serial")
    assert len(wanted) == 7 * CLIPS
    for workers in (2, 4):
        out = tmp_path / f"ray{workers}"
        assert not ClusterRunner(config, workers=workers, prompts=prompts, output=out).run().failed
        assert videos(out) == wanted
        table = read_results(str(out)).to_pylist()
        assert len(table) == CLIPS and all(len(row["content_loss"]) == 1 for row in table)
        assert all(row["evaluations"] > 1 for row in table)
