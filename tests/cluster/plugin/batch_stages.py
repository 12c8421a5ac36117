"""Stages for the tests of batches, installed on the workers as a third party's are: cheap, and wicked by prompt."""

from __future__ import annotations

import os
import signal
import time
from typing import Literal

import torch

from nc_refiner.cascade import Stage, StageOptions, StageRequest, StageResult
from nc_refiner.clip import VideoClip


class CheapOptions(StageOptions):
    """`pause`: seconds a clip takes."""

    type: Literal["cheap"] = "cheap"
    pause: float = 0.0


class Cheap(Stage):
    """Two frames of 16×16 from the seed; a prompt that begins with a misdeed does it."""

    Options = CheapOptions

    def run(self, request: StageRequest) -> StageResult:
        """Make it, or not."""
        time.sleep(self.options.pause)
        misdeed = (request.prompt or "").partition(" ")[0]
        if misdeed == "raise":
            raise RuntimeError("no such clip, please")
        if misdeed == "hang":
            # In C, with the interpreter's lock held by no one: nothing in this process could end it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            time.sleep(3600)
        if misdeed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if misdeed == "segfault":
            import ctypes

            ctypes.string_at(0)
        if misdeed == "full":
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
        frames = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(request.seed))
        request.on_step("make")
        return StageResult(VideoClip(frames, 8.0, request.prompt, request.seed, ("made",)))


class DarkerOptions(StageOptions):
    """No options."""

    type: Literal["darker"] = "darker"


class Darker(Stage):
    """Half as bright; `late` in a prompt kills here."""

    Options = DarkerOptions

    def run(self, request: StageRequest) -> StageResult:
        """Darken."""
        assert request.clip is not None
        if "late" in (request.prompt or ""):
            os.kill(os.getpid(), signal.SIGKILL)
        clip = request.clip
        request.on_step("darken")
        return StageResult(
            clip.with_frames(clip.frames / 2, "darkened"), {"content_loss": [0.5], "evaluations": {"x": 3}}
        )
