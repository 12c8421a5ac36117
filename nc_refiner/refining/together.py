"""Several refinements over one stream that is encoded once: one pass, windows of latents, windows of pixels."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..calibration import is_identity
from .fit import Fit, fit
from .keeping.windows import Keeping
from .latent_windows import LatentWindows
from .resize import resized
from .weights import MaskWeights
from .windows import sliding, window_generator

if TYPE_CHECKING:
    from .run import Refinement

__all__ = ["refine_together"]


def refine_together(
    runs: Sequence[Refinement], frames: Iterable[Tensor], count: int | None = None
) -> Iterator[tuple[Tensor, ...]]:
    """Several runs over one stream that is encoded once: an output of each, block by block.

    The runs follow each other on every window, so that the latents of one run are held at a time.

    Args:
        runs: differing in nothing but how they calibrate: one adapter, equal settings.
        frames, count: as `Refinement.run`.

    Yields:
        One block `(n, 3, H, W)` per run, in the order of `runs`, all of the same frames.

    Raises:
        ValueError: runs of different adapters or settings.
    """
    lead = runs[0]
    if any(run.adapter is not lead.adapter or run.settings != lead.settings for run in runs):
        raise ValueError("runs over one encoding need the same adapter and the same settings; run them one by one")
    together = _Together(runs)
    for block in together.run(frames, count):
        yield tuple(block.tensor_split(len(runs), dim=1))


class _Together:
    """The machinery of `refine_together`: outputs of all runs travel as one tensor, as further channels."""

    def __init__(self, runs: Sequence[Refinement]):
        self.runs, self.lead = runs, runs[0]
        self.adapter, self.plan, self.settings = self.lead.adapter, self.lead.plan, self.lead.settings

    def run(self, frames: Iterable[Tensor], count: int | None) -> Iterator[Tensor]:
        asked = self.settings
        frames = (resized(frame, asked) for frame in frames)
        window = self.plan.window_for(count)
        overlap = self.plan.overlap_for(window)
        if self.settings.keep is not None:
            yield from Keeping(self.runs).run(frames, window, overlap, count)
        else:
            yield from self._run(frames, window, overlap, count)

    def _run(self, frames: Iterable[Tensor], window: int, overlap: int, count: int | None) -> Iterator[Tensor]:
        before, of = (0, count) if self.lead.piece_of is None else self.lead.piece_of
        self._masks = MaskWeights([run.calibration for run in self.runs], self.adapter.requirements, of)
        for note in self._masks.notes:
            self._note(note)
        if count is not None and count <= window:
            yield from sliding(frames, window, overlap, lambda block, first: self._window(block, before + first))
            return
        head = list(islice(frames, window))
        obstacle = self._obstacle(head, window, count)
        stream = chain(head, frames)
        del head
        shared = f"refined in windows of {window} frames that share {overlap}"
        if obstacle is None:
            how = ", each denoised to its end" if self.adapter.owns_trajectory else ""
            self._note(f"{shared}, calibrated as one clip and blended in latent space{how}")
            yield from self._whole(stream, window, overlap)
        else:
            self._note(f"{shared}, calibrated one by one and faded in pixels: {obstacle}")
            for run in self.runs:
                if run.calibration.cutoff_time is not None and not is_identity(run.calibration):
                    run.note("cutoff_time filters each window by itself")
            yield from sliding(stream, window, overlap, self._window)

    def _note(self, text: str) -> None:
        for run in self.runs:
            run.note(text)

    def _obstacle(self, head: list[Tensor], window: int, count: int | None) -> str | None:
        """Why a clip that starts with `head` cannot be held as latents; None if it can."""
        needs, limit = self.adapter.requirements, self.settings.max_latents_gib
        if count is None:
            return "the number of frames is not known"
        if not needs.latent_windows:
            return f"{self.adapter.name} does not take windows of latents"
        if len(head) < window:
            return f"only {len(head)} of {count} frames came"
        if window < needs.min_frames:
            return f"{self.adapter.name} needs {needs.min_frames} frames at once"
        some, _ = self._encoded(torch.stack(head[: needs.min_frames]), torch.Generator().manual_seed(0))
        size = some[:, :, :1].numel() * some.element_size() * count / 2**30
        return None if size <= limit else f"its latents would take {size:.3g} GiB, above max_latents_gib = {limit:g}"

    def _encoded(self, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, Fit]:
        fitted, how = fit(frames, self.adapter.requirements)
        for note in how.notes():
            self._note(note)
        start = time.perf_counter()
        with torch.no_grad():
            latents = self.adapter.encode(fitted, generator)
        for run in self.runs:
            run.spent("encode", time.perf_counter() - start)
        return latents, how

    def _window(self, frames: Tensor, first: int) -> Tensor:
        generator = window_generator(self.settings.seed, first)
        reference, how = self._encoded(frames, generator)
        weights = self._masks.of(frames, first, how, reference)
        state, held, done = generator.get_state(), [reference], []
        del reference
        for left, run in zip(reversed(range(len(self.runs))), self.runs, strict=True):
            generator.set_state(state)
            given = held if not left else held[:]
            latents = run.latents(self.adapter, given, generator, first, weights.get(run.calibration.mask))
            loss = list(run.losses[-1])
            run.windows.append({"first": first, "frames": len(frames), "content_loss": loss})
            done.append(run.decoded(latents, how))
            del latents
        return torch.cat(done, dim=1) if len(done) > 1 else done[0]

    def _whole(self, stream: Iterable[Tensor], window: int, overlap: int) -> Iterator[Tensor]:
        """Windows of latents under one calibration; frames are encoded and decoded in blocks as they come and go."""
        generator = window_generator(self.settings.seed, 0)
        fits: list[Fit] = []

        def encode(block: Tensor, first: int) -> Tensor:
            latents, how = self._encoded(block, generator)
            if latents.shape[2] != len(block):
                raise RuntimeError(
                    f"{self.adapter.name} made {latents.shape[2]} latent frames of {len(block)} frames; an adapter "
                    "with requirements.latent_windows must make one of each"
                )
            fits.append(how)
            self._masks.keep(block, first, how, latents)
            return latents[0].transpose(0, 1)

        held = [torch.cat(list(sliding(stream, window, 0, encode))).transpose(0, 1)[None]]
        count, state, weights = held[0].shape[2], generator.get_state(), self._masks.whole()
        with tempfile.TemporaryDirectory(prefix="nc_refiner-") as folder:
            found: list[Tensor] = []
            for left, run in zip(reversed(range(len(self.runs))), self.runs, strict=True):
                generator.set_state(state)
                pieces = LatentWindows(self.adapter, count, window, overlap, lambda run=run: run.on_step(run.stage))  # type: ignore[misc]
                given = held if not left else held[:]
                latents = run.latents(pieces, given, generator, 0, weights.get(run.calibration.mask))
                run.windows += [{"first": start, "frames": window} for start in pieces.starts]
                # The next run needs the room: what is finished waits on disk for its turn to be decoded.
                found.append(_on_disk(latents, Path(folder) / str(left)) if left else latents)
                del latents

            def decode(block: Tensor, first: int) -> Tensor:
                channels = block.tensor_split(len(self.runs), dim=1)
                blocks = (part.transpose(0, 1)[None].contiguous() for part in channels)
                return torch.cat(
                    [run.decoded(part, fits[0]) for run, part in zip(self.runs, blocks, strict=True)], dim=1
                )

            yield from sliding(_frame_by_frame(found), window, 0, decode)


def _on_disk(latents: Tensor, path: Path) -> Tensor:
    """`latents` as a tensor on the CPU whose memory is the file `path`."""
    flat = torch.from_file(str(path), shared=True, size=latents.numel(), dtype=latents.dtype)
    return flat.copy_(latents.flatten()).view(latents.shape)


def _frame_by_frame(clips: Sequence[Tensor]) -> Iterator[Tensor]:
    """Latent frames `(R·C, H, W)` of R clips `(1, C, F, H, W)`, one after another."""
    device = clips[-1].device
    for index in range(clips[0].shape[2]):
        yield torch.cat([clip[0, :, index].to(device) for clip in clips])
