"""The paper's tables and figures on the embedded model, and docs/reproduction.md with a verdict on every claim.

    python tools/reproduce_paper.py --quick [--clips FOLDER ...]
    python tools/reproduce_paper.py --clips FOLDER [FOLDER ...] [--published FOLDER] [--upscaler FOLDER] [--output docs]

`--quick` takes four frames of at most four clips (about six minutes of one core). Killed, the same command goes on
where it was. Writes OUTPUT/reproduction.md and, in OUTPUT/reproduction/, figures, rows.parquet and results.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from reproduction.claims import claims
from reproduction.cost import measure_cost
from reproduction.document import document
from reproduction.figures import draw_all
from reproduction.plans import EVERY, PLANS, Size, evaluation_clips
from reproduction.published import measure_published
from reproduction.restoring import restorers_here, restoring_plan

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.evaluation import spatial_frequency
from nc_refiner.experiment.offline.results import write_parquet
from nc_refiner.files import write_text
from nc_refiner.refining.receipt import versions
from nc_refiner.sweeps import run_plan

log = logging.getLogger(__name__)
QUICK = Size(frames=4, clips=4)
NAME = "reproduction"
PUBLISHED_FRAMES = 4
"""Of each published clip; neighbouring frames hardly differ in these metrics."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that shows the same shapes")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="folders of clips that training never saw")
    parser.add_argument("--published", type=Path, help="folder with the clips that the authors published")
    parser.add_argument("--upscaler", type=Path, help="folder with the weights of stable-diffusion-x4-upscaler")
    parser.add_argument("--output", type=Path, help="default: docs, or out/reproduction_quick with --quick")
    parser.add_argument("--cells", type=Path, help="finished cells (default: out/reproduction/cells)")
    parser.add_argument("--frames", type=int, help=f"of each clip (default {Size.frames}; {QUICK.frames} with --quick)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    return parser


def _teller(plan: str) -> Callable[[str], None]:
    """Says when a plan comes to another clip."""
    last = ""

    def tell(clip: str) -> None:
        nonlocal last
        if clip != last:
            log.info("%s: %s", plan, clip)
        last = clip

    return tell


def reproduce(
    clips: list[Path],
    size: Size,
    output: Path,
    cells: Path,
    command: str,
    published: Path | None = None,
    upscaler: Path | None = None,
) -> dict[str, Any]:
    """Run everything and write it below `output`; returns what results.json holds.

    Args:
        clips: folders beside the bundled clip.
        size: how much of them.
        output: folder of the page.
        cells: folder of finished cells.
        command: as the page quotes it.
        published: folder of the published clips.
        upscaler: folder of the ×4 upscaler's weights.
    """
    adapter = EmbeddedRefiner(device="cpu")
    chosen = evaluation_clips(clips, size)
    tables = {}
    for name, plan in PLANS.items():
        some = chosen if size.clips is not None else chosen[:: EVERY.get(name, 1)]
        tables[name] = run_plan(adapter, some, plan, cells, _teller(name))
    restorers, skipped = restorers_here(upscaler)
    some = chosen if size.clips is not None else chosen[:: EVERY["restoring"]]
    plan, built = restoring_plan(restorers)
    tables["restoring"] = run_plan(adapter, some, plan, cells, _teller("restoring"), restorers=built)
    folder = output / NAME
    folder.mkdir(parents=True, exist_ok=True)
    cost = measure_cost(adapter, min(chosen, key=lambda clip: clip.frames.numel()))
    checked = measure_published(published, cells, PUBLISHED_FRAMES) if published else []
    found = claims(tables, cost, skipped)
    facts = {
        "versions": versions(),
        "adapter": adapter.describe(),
        "clips": {clip.name: [len(clip.frames), *clip.frames.shape[2:]] for clip in chosen},
        "details": {
            clip.name: float(spatial_frequency(clip.original).mean()) for clip in chosen if clip.original is not None
        },
        "restorers": {name: restorer.describe() for name, restorer in restorers.items()},
        "skipped": skipped,
    }
    draw_all(tables, folder)
    write_parquet([{"plan": name, **row} for name, rows in tables.items() for row in rows], folder / "rows.parquet")
    results = {
        "command": command,
        **facts,
        "cost": cost,
        "claims": [claim.as_dict() for claim in found],
        "published": checked,
    }
    write_text(folder / "results.json", json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)).commit()
    beyond = folder / "beyond.json"
    asked = json.loads(beyond.read_text(encoding="utf-8")) if beyond.exists() else []
    write_text(output / f"{NAME}.md", document(command, facts, tables, found, checked, NAME, asked)).commit()
    return results


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; 0 when it is done, 2 for folders that are not there."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    parser = _parser()
    given = parser.parse_args(arguments)
    for folder in [*given.clips, *(path for path in (given.published, given.upscaler) if path)]:
        if not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    torch.set_num_threads(given.threads)
    output = given.output or Path("out/reproduction_quick" if given.quick else "docs")
    cells = given.cells or Path("out") / NAME / "cells"
    command = shlex.join(["python", "tools/reproduce_paper.py", *(sys.argv[1:] if arguments is None else arguments)])
    size = QUICK if given.quick else Size()
    size = replace(size, frames=given.frames or size.frames)
    results = reproduce(given.clips, size, output, cells, command, given.published, given.upscaler)
    for claim in results["claims"]:
        log.info("%s [%s]: %s", claim["verdict"], claim["setting"], claim["claim"])
    log.info("written: %s", output / f"{NAME}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
