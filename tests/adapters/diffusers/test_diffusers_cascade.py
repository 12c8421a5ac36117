"""A cascade over a diffusers pipeline: no call is begun only to count the steps of a progress bar."""

from __future__ import annotations

from contextlib import contextmanager

import diffusers
import torch
from zoo import sd_parts

from nc_refiner.adapters.diffusers.pipe_adapter import PipelineAdapter
from nc_refiner.cascade import CascadeRunner, load_config
from nc_refiner.video import FrameWriter


def test_no_call_is_begun_for_the_progress_bar(tmp_path, monkeypatch):

    diffusers.StableDiffusionImg2ImgPipeline(**sd_parts()).save_pretrained(tmp_path / "model")
    with FrameWriter(tmp_path / "clip.mp4", 8) as writer:
        writer.write(torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0)))
    (tmp_path / "cascade.yaml").write_text(
        f"version: 1\nbase: {{type: file, path: {tmp_path / 'clip.mp4'}}}\noutput: {tmp_path / 'out'}\nprompt: a cat\n"
        f"refiner: {{type: nc, iterations: 2, num_inference_steps: 4, strength: 0.5,\n"
        f"  backbone: {{adapter: diffusers, model: {tmp_path / 'model'}, local_files_only: true}}}}\n",
        encoding="utf-8",
    )
    calls, before, steps = 0, [], []
    run = PipelineAdapter._run

    def counted(self, *arguments, **options):
        nonlocal calls
        calls += 1
        return run(self, *arguments, **options)

    @contextmanager
    def progress(stage, total):
        before.append((stage, total, calls))
        yield steps.append

    monkeypatch.setattr(PipelineAdapter, "_run", counted)
    summary = CascadeRunner(load_config(tmp_path / "cascade.yaml"), progress=progress).run()
    assert not summary.failed, [item.error for item in summary.items]
    assert [(stage, begun) for stage, _, begun in before] == [("base", 0), ("refiner", 0)]
    total = before[-1][1]
    assert total == 2 + 2 and steps.count("calibrate") == 2 and steps.count("denoise") == 2
    assert calls > 0
